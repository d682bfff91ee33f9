package mdns
func childMain() bool { return false }
