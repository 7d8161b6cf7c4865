package host

// ID is in the names of what there is of a host on this machine.
func (h *Host) ID() string { return h.remains.id }

var CgroupDirs = cgroupDirs
