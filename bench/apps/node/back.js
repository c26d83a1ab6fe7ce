exports.foo = function (i, cb) {
  cb(i);
};
