//go:build !linux

package demo

import "syscall"

// childAttributes keeps Ctrl-C from reaching a cluster before the demo.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
