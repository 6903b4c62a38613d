package wasm

import (
	"fmt"
	"sync"
	"testing"
)

func TestAnInstanceFromThePoolRemembersNothing(t *testing.T) {
	t.Parallel()
	pool, p := NewPool(1, 10), load(t, probePackage)
	var first *Instance
	for n := range 5 {
		i, err := pool.Get(t.Context(), p, "owner")
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			first = i
		} else if i != first {
			t.Error("the pool made a new instance")
		}
		if got, want := i.Sum0(), p.ImageHash(); got != want {
			t.Errorf("use %d: got memory %x, want %x", n, got, want)
		}
		a, err := i.Begin(t.Context(), start("remember", 0), Limits{})
		if got := result(t, a, err); got != "1000" {
			t.Errorf("use %d: got %s, want 1000", n, got)
		}
		if i.Dirty() == 0 {
			t.Error("the flow wrote nothing")
		}
		if err := pool.Put(i); err != nil {
			t.Fatal(err)
		}
	}
}

// Sum0 is the hash of memory and globals alone.
func (i *Instance) Sum0() [32]byte {
	octets, _ := i.memory().Read(0, i.memory().Size())
	return digest(octets, i.readGlobals())
}

func TestComparingRestoresWhatPagemapDoes(t *testing.T) {
	t.Parallel()
	i := instance(t)
	if _, err := i.Begin(t.Context(), start("remember", 0), Limits{}); err != nil {
		t.Fatal(err)
	}
	img := i.program.image
	compare(i.mapped.octets[:len(img.octets)], img.octets)
	i.writeGlobals(img.globals)
	if got, want := i.Sum0(), i.program.ImageHash(); got != want {
		t.Errorf("got memory %x, want %x", got, want)
	}
}

func TestAnInstanceThatGrewOrDiedIsNotKept(t *testing.T) {
	t.Parallel()
	pool, p := NewPool(4, 10), load(t, probePackage)
	for _, class := range []string{"allocate", "exit"} {
		i, err := pool.Get(t.Context(), p, "owner")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = i.Begin(t.Context(), start(class, 20), Limits{})
		if err := pool.Put(i); err != nil {
			t.Fatal(err)
		}
		if n := pool.Idle(); n != 0 {
			t.Errorf("after %s: got %d idle, want 0", class, n)
		}
	}
}

func TestAPoolKeepsOwnersApartAndItsBounds(t *testing.T) {
	t.Parallel()
	pool, p := NewPool(2, 3), load(t, probePackage)
	var all []*Instance
	for n := range 6 {
		i, err := pool.Get(t.Context(), p, fmt.Sprint("owner ", n%2))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, i)
	}
	for _, i := range all {
		if err := pool.Put(i); err != nil {
			t.Fatal(err)
		}
	}
	if n := pool.Idle(); n != 3 {
		t.Errorf("got %d idle, want 3", n)
	}
	i, err := pool.Get(t.Context(), p, "owner 1")
	if err != nil || i.Owner() != "owner 1" || i.dead {
		t.Errorf("got an instance of %q, %v", i.Owner(), err)
	}
	if err := pool.Drop(func(_ *Program, owner string) bool { return owner == "owner 0" }); err != nil {
		t.Fatal(err)
	}
	if n := pool.Idle(); n != 1 {
		t.Errorf("got %d idle, want 1", n)
	}
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pool.Put(i); err != nil || pool.Idle() != 0 {
		t.Errorf("a closed pool kept an instance, %v", err)
	}
}

func TestManyFlowsRunAtOnce(t *testing.T) {
	t.Parallel()
	pool, p := NewPool(4, 8), load(t, probePackage)
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for range 10 {
				i, err := pool.Get(t.Context(), p, fmt.Sprint(n%3))
				if err != nil {
					t.Error(err)
					return
				}
				a, err := i.Begin(t.Context(), start("echo", n), Limits{})
				if err != nil || a.Mode != 0 {
					t.Errorf("got %+v, %v", a, err)
				}
				if err := pool.Put(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
