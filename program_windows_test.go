package budgie_test

// program is for the process runtime, which this system does not have.
func program([]string) {}
