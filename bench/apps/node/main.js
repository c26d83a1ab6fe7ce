// The app of the original toolkit's column: one that answers, one that calls.
require('mob')
  .start('bench')
  .base(module)
  .role('back', './back.js')
  .role('front', './front.js');
