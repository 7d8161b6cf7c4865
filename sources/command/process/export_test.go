package process

// WaitID waits for a child as on a kernel without pidfds.
func WaitID(pid int) bool { return exit{pid: pid}.wait() }
