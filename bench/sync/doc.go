// Command sync measures how long it takes to make a volume's copy, and to keep it
// what its source is: by Budgie and by rsync, in turn, in the same minutes, on the
// same trees; and how soon a file that is written is seen in the copy, by Budgie,
// lsyncd and syncthing.
//
//	go run ./bench/sync
//
// It needs root and Linux, and installs what it compares with. The hosts are those
// of a laboratory (internal/lan). It prints what it found and writes it into
// docs/benchmarks.md.
package main
