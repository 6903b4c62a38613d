package bus_test

import (
	"math/rand/v2"
	"testing"

	"github.com/hawser-project/hawser/bus"
)

func TestAPositionRemembersWhatIsFinishedAboveAGap(t *testing.T) {
	t.Parallel()
	var p bus.Position
	for _, offset := range []uint64{0, 1, 3, 4, 7} {
		p.Finish(offset)
	}
	for offset, want := range map[uint64]bool{0: true, 1: true, 2: false, 3: true, 4: true, 5: false, 6: false, 7: true, 8: false} {
		if got := p.Done(offset); got != want {
			t.Errorf("Done(%d) is %v, want %v", offset, got, want)
		}
	}
	p.Finish(2)
	if p.Low != 5 || len(p.Above) != 1 {
		t.Errorf("after the gap is closed: low %d with %d above, want 5 with 1", p.Low, len(p.Above))
	}
}

func TestAPositionEndsTheSameInWhateverOrderRecordsFinish(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var p bus.Position
		for i, offset := range rng.Perm(200) {
			p.Finish(uint64(offset))
			if i%17 == 0 {
				p = reread(t, p)
			}
		}
		if p.Low != 200 || len(p.Above) != 0 {
			t.Errorf("seed %d: low %d with %d above, want 200 with none", seed, p.Low, len(p.Above))
		}
	}
}

func reread(t *testing.T, p bus.Position) (back bus.Position) {
	t.Helper()
	octets, err := p.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.UnmarshalBinary(octets); err != nil {
		t.Fatal(err)
	}
	return back
}

func FuzzPositionUnmarshal(f *testing.F) {
	f.Add([]byte{5, 1, 2, 3, 1})
	f.Fuzz(func(t *testing.T, octets []byte) {
		var p bus.Position
		if p.UnmarshalBinary(octets) == nil {
			if back := reread(t, p); back.Low != p.Low || len(back.Above) != len(p.Above) {
				t.Errorf("%x reads as %+v and again as %+v", octets, p, back)
			}
		}
	})
}
