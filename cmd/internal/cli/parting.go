package cli

import (
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// partFromInotify is for a process that is about to end. To close an inotify instance
// takes the kernel a grace period of RCU, on the machines that were measured 15 ms at the
// median and up to 30, during which the process can't end: more than the rest of a short
// run. So the last to hold the instance is made an io_uring, which the kernel takes down
// in its own time, after the end. Where io_uring is not allowed nothing is gained.
func partFromInotify() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	var fds []int32
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || to != "anon_inode:inotify" {
			continue
		}
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			fds = append(fds, int32(fd))
		}
	}
	if len(fds) == 0 {
		return
	}
	var params [120]byte // struct io_uring_params
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return
	}
	const registerFiles = 2 // IORING_REGISTER_FILES
	_, _, _ = unix.Syscall6(unix.SYS_IO_URING_REGISTER, ring, registerFiles, uintptr(unsafe.Pointer(&fds[0])), uintptr(len(fds)), 0, 0)
}
