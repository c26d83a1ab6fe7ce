# main.py -- running it makes this process the Kingpin
import mob

(
    mob.start("myapp")                                     # names the app; prefix of every process title
    .base(__file__)                                        # role paths are resolved from here
    .role("back", "./background_worker.py", workers=4)     # a file, or an import string "pkg.module"
    .role("front", "./http_server.py", workers=2)
    .run()                                                 # starts 6 workers, returns when the app has stopped
)
