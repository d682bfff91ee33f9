// Package process runs containers as plain processes of this machine, on Linux
// and macOS, as any user, with nothing to install.
//
// # What it does
//
// Each container is a process in a session of its own, with a clean
// environment, a directory root/ in which the volumes appear under their
// targets, a free loopback port for each of its ports, and kept logs. It goes on
// running when the program that started it ends or is killed; the next one
// takes it over by Adopt.
//
// A container finds out where it is from its environment: PORT is where to
// listen (the first TCP port), BUDGIE_PORT_<container_port> is the same for
// every port, BUDGIE_ROOT is the directory with the volumes, which is also the
// working directory, BUDGIE_NAME and BUDGIE_CONTAINER_ID say who it is. Of the
// starting program's environment only PATH, HOME, USER, LOGNAME, SHELL, LANG,
// LC_*, TZ and TMPDIR are passed on.
//
// A UDP port is BUDGIE_PORT_<container_port>_UDP, too, which names it also where
// a TCP port has the same number.
//
// # What it cannot do
//
// There is no isolation. The process sees the whole machine, its file system
// and its network, as the user who runs Budgie. In particular:
//
//   - Resource limits are accepted and not enforced; a warning says so.
//   - A read-only volume can be written to. Absolute paths in a program mean
//     the machine's, not root/'s.
//   - Images, network none and a different user are refused: another user could
//     not enter the data directory, which only its owner may.
//   - Volume targets cannot be inside each other, as they are symbolic links.
//   - A port may be taken by a stranger between its choice and the moment when
//     the process binds it. Ports are not given twice by one program, and the
//     restart policy covers the rest.
//   - What a process leaves behind is found by its session and by
//     BUDGIE_CONTAINER_ID in its environment. A descendant that leaves the
//     session and wipes its environment escapes; on macOS, leaving the session
//     is enough.
//   - What containers use is told on Linux only.
//   - Nobody sees the exit code of a process that ends while it has no supervisor:
//     it is lifecycle.UnknownExitCode. That of one that was adopted is seen on
//     Linux from 6.15 on; before, only while the process that started it lives.
//   - A command that turns out not to be executable only when it is run, such
//     as a program for another machine, exits with 126 or 127 and says why in
//     its log, as in a shell. A script without "#!" is run by /bin/sh.
//
// # Output
//
// Standard output and error are named pipes that the process itself holds open
// for reading, too, so that it does not notice when its supervisor dies, and
// the next supervisor reads on where the last one ended. While there is none,
// a process that fills its pipe (up to 1 MiB where the system allows it, 64 KiB
// on macOS) blocks until there is one; and when such a process ends, what is
// still in the pipe is lost with it. On Linux a line is taken out of the pipe
// only after it is in the log, so a killed supervisor loses none, but the next
// one may log the last piece a second time. Elsewhere the last piece can be
// lost.
//
// If the log cannot be written, for example because the disk is full, output is
// thrown away rather than the container held up, and a warning says so.
//
// # On disk
//
//	<dir>/<id>/config.json   what to run
//	<dir>/<id>/status.json   what was seen last
//	<dir>/<id>/io/           the named pipes
//	<dir>/<id>/log/          the logs, see internal/logfile
//	<dir>/<id>/root/         the volumes' links and the working directory
//
// On Linux, kernel 5.3 or later is needed.
package process
