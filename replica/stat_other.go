//go:build !unix

package replica

import "io/fs"

// statOf knows nothing: there are no owners of that kind here.
func statOf(fs.FileInfo) (owner, node) { return owner{}, node{} }

// onlyDirectory has an open fail for what is no directory, where the system has that.
const onlyDirectory = 0
