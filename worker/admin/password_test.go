package admin

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hawser-project/hawser/cluster/fault"
)

// try makes one attempt, and returns whether it was let in.
func try(t *testing.T, g *guard, name, source string, right bool) bool {
	t.Helper()
	leave, err := g.enter(t.Context(), name, source)
	if err == nil {
		leave(right)
		return true
	}
	if fault.KindOf(err) != fault.TooMany || fault.DetailsOf(err)["retryAfter"] == "" {
		t.Errorf("refused with %v, want too many with a time", err)
	}
	return false
}

func TestWrongPasswordsAreSlowedDownPerNameAndSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard()
		let := 0
		for range 20 {
			if try(t, g, "bob", "10.0.0.1", false) {
				let++
			}
		}
		if let != freeTries+1 {
			t.Errorf("%d wrong passwords at once were let in, want %d", let, freeTries+1)
		}
		if !try(t, g, "bob", "10.0.0.2", true) {
			t.Error("another source is locked out with it: anybody could lock anybody out")
		}
		if !try(t, g, "eve", "10.0.0.1", true) {
			t.Error("another name from the source is slowed down too early")
		}
		time.Sleep(firstDelay)
		if !try(t, g, "bob", "10.0.0.1", true) {
			t.Error("not let in after the delay")
		}
		if !try(t, g, "bob", "10.0.0.1", false) {
			t.Error("a right password did not end the delay")
		}
	})
}

func TestOneSourceThatTriesManyNamesIsSlowedDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard()
		let := 0
		for i := range 200 {
			if try(t, g, string(rune('a'+i%26))+string(rune('a'+i/26)), "10.0.0.1", false) {
				let++
			}
		}
		if let > 10*freeTries+1 {
			t.Errorf("%d attempts were let in", let)
		}
	})
}

func TestChecksOfANameComeOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard()
		leave, err := g.enter(t.Context(), "bob", "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.enter(ctx, "bob", "b"); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("a second check of the name: got %v, want to wait in vain", err)
		}
		leave(true)
		if !try(t, g, "bob", "b", true) {
			t.Error("not let in after the first has left")
		}
		if len(g.names) != 0 || g.waiting != 0 {
			t.Errorf("%d names and %d waiting are left behind", len(g.names), g.waiting)
		}
	})
}

func TestWrongPasswordsInParallelAreSlowedDownToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard()
		var let atomic.Int32
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				leave, err := g.enter(t.Context(), "bob", "10.0.0.1")
				if err == nil {
					let.Add(1)
					time.Sleep(10 * time.Millisecond) // the hash
					leave(false)
				}
			})
		}
		group.Wait()
		if let.Load() != freeTries+1 {
			t.Errorf("%d wrong passwords sent at once were checked, want %d", let.Load(), freeTries+1)
		}
		if len(g.names) != 0 || g.waiting != 0 {
			t.Errorf("%d names and %d waiting are left behind", len(g.names), g.waiting)
		}
	})
}

func TestWrongPasswordsAreForgottenAfterAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuard()
		for range 100 { // people who mistype now and then, behind one address
			if !try(t, g, "bob", "10.0.0.1", false) {
				t.Fatal("not let in")
			}
			time.Sleep(forgetAfter + time.Second)
		}
		for range freeTries {
			if !try(t, g, "bob", "10.0.0.1", false) {
				t.Error("slowed down for what was wrong long ago")
			}
		}
	})
}

func TestAHostOfIPv6IsOneSource(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"2001:db8::1:2:3:4": "2001:db8::", "2001:db8::ffff:0:0:9": "2001:db8::", "fe80::1%eth0": "fe80::",
		"::ffff:10.0.0.1": "10.0.0.1", "10.0.0.1": "10.0.0.1", "": "", "@": "@",
	} {
		if got := network(source); got != want {
			t.Errorf("%q: got %q, want %q", source, got, want)
		}
	}
}
