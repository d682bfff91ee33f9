// Package file is a store in files: every process that opens the same
// directory sees the same containers.
//
// # The directory
//
//	state.json         all records, with the revision of the last write
//	state.json.tmp     the next state.json while it is written
//	state.lock         locked by the process that writes
//	owners/NAME.lock   locked by the process that holds the owner name NAME
//	owners/.gate       locked for the moment of looking at the others
//
// The directory must be on a local file system: locks, renames and change
// notices of network file systems do not keep the promises made here.
//
// # Writing
//
// A write holds state.lock, reads what is there, writes state.json.tmp whole,
// fsyncs it, renames it to state.json, and fsyncs the directory. A crash at any
// point leaves the old or the new state. Writes of one process that come while
// another is under way are done together, by one such sequence, each with its
// own result; so the number of goroutines that write costs little.
//
// An error before the rename leaves the old state. An error of the directory's
// fsync, after it, leaves the new state in sight but not sure to survive a
// crash of the machine, and Put says so. It is not taken back: somebody may
// have read it, and a revision must never mean two things.
//
// # What cannot be read
//
// A state.json that cannot be read, whatever the reason, is never overwritten.
// All operations on records fail, with store.ErrCorrupt or store.ErrVersion
// where that is the reason, until somebody has put a good one in its place; the
// store need not be opened anew then. So that nothing is dropped in silence, a
// field that this version does not know counts as a newer version.
//
// A state.json that is gone counts as one that cannot be read for everybody who
// has read or written it since Open, so that moving it away and back, as some
// editors do, looks to nobody as if all containers had been removed. A store
// that is opened without one is empty. If the directory is gone as a whole, the
// errors are fs.ErrNotExist.
//
// # Who may write
//
// Whoever can write in the directory can have commands run. It must belong to
// the user of the process and be writable to no one else. Root may use another
// user's: what it makes there is given to that user, who goes on as before.
//
// # Owners
//
// An owner name is held by a lock (flock, LockFileEx on Windows) on its file,
// which the kernel frees when the process ends, however it ends. Child
// processes do not inherit it. To see whether a name is held one must try to
// lock, which could be taken for holding it. So all that try do it under
// owners/.gate, one after the other: inside the gate a locked file means an
// owner, not somebody else who looks. For the same reason nobody can have a
// file open that is about to be removed, and those of released names and dead
// processes are removed without a race.
package file
