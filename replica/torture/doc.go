// Package torture has the tests of copies that follow while everything fails that
// can: trees change at random, both sides are processes of their own, connections
// are cut, slow or stuck, either side is killed or stopped at any moment, the disk
// of the copy is full, and the kernel loses events. When all is well again, the
// copy must become what its source is, without a hand.
//
// TestTorture runs for half a minute; BUDGIE_TORTURE=1h, or make torture, has it
// run for longer. It prints its seed; BUDGIE_TORTURE_SEED repeats the choices, not
// their timing.
package torture
