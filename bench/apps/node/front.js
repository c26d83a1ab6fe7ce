// For each line `N WIDTH` of its input: N times WIDTH calls at once; prints the seconds that they took.
var back = require('mob').require('back');

function rounds(n, width, done) {
  var missing = width;
  if (n === 0) return done();
  function answered() {
    if (--missing === 0) rounds(n - 1, width, done);
  }
  for (var i = 0; i < width; i++) back.foo(i, answered);
}

require('readline').createInterface({ input: process.stdin }).on('line', function (line) {
  var asked = line.split(' ').map(Number), start = process.hrtime.bigint();
  rounds(asked[0], asked[1], function () {
    process.stdout.write(Number(process.hrtime.bigint() - start) / 1e9 + '\n');
  });
}).on('close', function () {
  process.kill(process.ppid);  // the Kingpin, and so all
});
