package demo

import "syscall"

// childAttributes keeps a cluster from outliving the demo that started it, and Ctrl-C from reaching it before the demo.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
