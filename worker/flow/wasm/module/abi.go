package module

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Modules that a flow module may import from.
const (
	Hawser = "hawser"
	WASI   = "wasi_snapshot_preview1"
)

// Imports are the functions that a module may import, with their signatures: parameters, colon, results; i is i32,
// I is i64. The host offers all of them; most of WASI answers "not supported".
var Imports = map[string]map[string]string{
	Hawser: {"yield": ":", "log": "iii:"},
	WASI: {
		"args_get": "ii:i", "args_sizes_get": "ii:i", "environ_get": "ii:i", "environ_sizes_get": "ii:i",
		"clock_res_get": "ii:i", "clock_time_get": "iIi:i", "random_get": "ii:i", "sched_yield": ":i",
		"proc_exit": "i:", "proc_raise": "i:i", "poll_oneoff": "iiii:i",
		"fd_advise": "iIIi:i", "fd_allocate": "iII:i", "fd_close": "i:i", "fd_datasync": "i:i",
		"fd_fdstat_get": "ii:i", "fd_fdstat_set_flags": "ii:i", "fd_fdstat_set_rights": "iII:i",
		"fd_filestat_get": "ii:i", "fd_filestat_set_size": "iI:i", "fd_filestat_set_times": "iIIi:i",
		"fd_pread": "iiiIi:i", "fd_prestat_dir_name": "iii:i", "fd_prestat_get": "ii:i", "fd_pwrite": "iiiIi:i",
		"fd_read": "iiii:i", "fd_readdir": "iiiIi:i", "fd_renumber": "ii:i", "fd_seek": "iIii:i",
		"fd_sync": "i:i", "fd_tell": "ii:i", "fd_write": "iiii:i",
		"path_create_directory": "iii:i", "path_filestat_get": "iiiii:i", "path_filestat_set_times": "iiiiIIi:i",
		"path_link": "iiiiiii:i", "path_open": "iiiiiIIii:i", "path_readlink": "iiiiii:i",
		"path_remove_directory": "iii:i", "path_rename": "iiiiii:i", "path_symlink": "iiiii:i",
		"path_unlink_file": "iii:i", "sock_accept": "iii:i", "sock_recv": "iiiiii:i", "sock_send": "iiiii:i",
		"sock_shutdown": "ii:i",
	},
}

// required are the exports that the host calls; optional ones are called when they are there.
var (
	required = map[string]string{"fl_abi": ":i", "fl_describe": ":I", "fl_buf": "i:i", "fl_begin": "i:I", "fl_resume": "i:I"}
	optional = map[string]string{"_initialize": ":", "fl_warm": ":"}
)

// check tells everything that is wrong with the module's border at once.
func (m *parsed) check() error {
	var faults []string
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	m.checkImports(add)
	for _, name := range slices.Sorted(maps.Keys(required)) {
		if _, ok := m.exports[name]; !ok {
			add("does not export %s (is it built with -buildmode=c-shared and the SDK?)", name)
		}
		m.checkExport(add, name, required[name])
	}
	for _, name := range slices.Sorted(maps.Keys(optional)) {
		m.checkExport(add, name, optional[name])
	}
	if e, ok := m.exports["memory"]; !ok || e.kind != kindMemory {
		add("does not export its memory as \"memory\"")
	}
	if m.memories != 1 {
		add("has %d memories, want 1", m.memories)
	}
	if len(m.funcs) > 0 && m.code == nil {
		add("has no code")
	}
	if m.start {
		add("has a start function, want none: export _initialize")
	}
	for name := range m.exports {
		if strings.HasPrefix(name, "__g") || name == fuelName {
			add("exports %s, a name that is reserved", name)
		}
	}
	for i, g := range m.globals {
		if g.mutable && (g.typ < 0x7c || g.typ > 0x7f) {
			add("global %d is mutable and no number", i)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.Sort(faults)
	return fmt.Errorf("%w: %w", ErrInvalid, errors.New(strings.Join(faults, "; ")))
}

func (m *parsed) checkImports(add func(string, ...any)) {
	yields := false
	for n, i := range m.imports {
		want, ok := Imports[i.module][i.name]
		switch got, typed := m.signature(uint32(n)); {
		case Imports[i.module] == nil:
			add("imports %s.%s: only %s and %s may be imported from", i.module, i.name, Hawser, WASI)
		case !ok:
			add("imports %s.%s, which does not exist", i.module, i.name)
		case !typed || got != want:
			add("imports %s.%s with signature %q, want %q", i.module, i.name, got, want)
		}
		yields = yields || i.module == Hawser && i.name == "yield"
	}
	if !yields {
		add("does not import %s.yield, which limits need", Hawser)
	}
}

func (m *parsed) checkExport(add func(string, ...any), name, want string) {
	e, ok := m.exports[name]
	if !ok {
		return
	}
	got, typed := m.signature(e.index)
	if e.kind != kindFunc || !typed || got != want {
		add("exports %s with signature %q, want %q", name, got, want)
	}
}

// yield is the index of the imported yield function.
func (m *parsed) yield() uint32 {
	return uint32(slices.IndexFunc(m.imports, func(i imported) bool { return i.module == Hawser && i.name == "yield" }))
}
