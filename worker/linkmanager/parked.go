package linkmanager

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hawser-project/hawser/bus"
	"github.com/hawser-project/hawser/cluster/message"
	"github.com/hawser-project/hawser/cluster/topic"
)

// Parked messages are rows of state. Key: the hash that names the lane. Row: page and number, in hexadecimal, so that a
// scan gives them in order and a part of them can be read.
var (
	parkedRows = bus.State[message.Outbound]{Name: "linkmanager.parked", Owner: topic.LinkManager}
	// parkedPages has a row for each page that has rows, with the pair whose lane it is.
	parkedPages = bus.State[message.Pair]{Name: "linkmanager.parked-pages", Owner: topic.LinkManager}
)

const pageRows = 64

func pageName(page uint64) string { return fmt.Sprintf("%016x", page) }
func rowName(number uint64) string {
	return fmt.Sprintf("%016x.%016x", number/pageRows, number)
}

// parked is what a runner knows of its parked messages. Numbers rise in the order of parking.
type parked struct {
	last    uint64               // the last number given
	rows    map[uint64]*delivery // parked and in memory
	cold    []uint64             // pages that have rows which are not in memory, sorted
	writing map[uint64]int       // rows being written, by page
	loading bool

	ends     []topic.ParkedEnd // to be settled
	settling bool
}

// newParked begins with a number that none before has had, whoever gave it: a settlement that comes late must not end
// another message. Numbers rise with the time of day, faster than messages can be parked.
func newParked() parked {
	first := uint64(time.Now().UnixMicro()) / pageRows * pageRows
	return parked{last: first, rows: make(map[uint64]*delivery), writing: make(map[uint64]int)}
}

// begin gives a row to a delivery that is about to be written.
func (p *parked) begin(d *delivery) (number uint64) {
	p.last++
	p.rows[p.last] = d
	p.writing[p.last/pageRows]++
	return p.last
}

// written takes note of how the writing of a row went.
func (p *parked) written(number uint64, ok bool) {
	page := number / pageRows
	if p.writing[page]--; p.writing[page] == 0 {
		delete(p.writing, page)
	}
	if !ok {
		delete(p.rows, number)
	}
}

// chill takes a row out of memory.
func (p *parked) chill(number uint64) {
	delete(p.rows, number)
	p.addCold(number / pageRows)
}

func (p *parked) addCold(page uint64) {
	if i, there := slices.BinarySearch(p.cold, page); !there {
		p.cold = slices.Insert(p.cold, i, page)
	}
}

// pages is how many pages have parked messages, about.
func (p *parked) pages() int {
	n := len(p.cold)
	warm := make(map[uint64]struct{})
	for number := range p.rows {
		page := number / pageRows
		if _, cold := slices.BinarySearch(p.cold, page); !cold {
			warm[page] = struct{}{}
		}
	}
	return n + len(warm)
}

// closed is the first page to which rows may still be added.
func (p *parked) closed() uint64 {
	page := (p.last + 1) / pageRows
	for w := range maps.Keys(p.writing) {
		page = min(page, w)
	}
	return page
}

// take returns what is to be settled now, at most so much.
func (p *parked) take() (s topic.Settlement, any bool) {
	if p.settling || len(p.ends) == 0 {
		return s, false
	}
	n := min(len(p.ends), 512)
	s = topic.Settlement{Ends: slices.Clone(p.ends[:n]), Closed: p.closed()}
	p.ends = slices.Delete(p.ends, 0, n)
	p.settling = true
	return s, true
}

// loadPage reads the rows of a page.
func loadPage(ctx context.Context, c *bus.Client, key string, page uint64) (list []*delivery, err error) {
	err = c.View(ctx, func(r bus.Reader) error {
		rows, err := parkedRows.List(r, key, pageName(page)+".")
		for _, row := range rows {
			number, ok := rowNumber(row.Row)
			if ok {
				list = append(list, &delivery{msg: row.Value, copy: durable{row: number}})
			}
		}
		return err
	})
	return list, err
}

func rowNumber(row string) (number uint64, ok bool) {
	_, text, _ := strings.Cut(row, ".")
	n, err := fmt.Sscanf(text, "%x", &number)
	return number, n == 1 && err == nil
}

// settle is the command that ends parked messages.
func (w *Worker) settle(_ context.Context, tx *bus.Tx, key string, s topic.Settlement) (struct{}, error) {
	pages := make(map[uint64]bool)
	for _, end := range s.Ends {
		row := rowName(end.Number)
		pages[end.Number/pageRows] = true
		msg, found, err := parkedRows.Get(tx, key, row)
		if err != nil {
			return struct{}{}, err
		}
		if !found {
			continue // settled before
		}
		w.conclude(tx, &msg, end)
		parkedRows.Delete(tx, key, row)
	}
	for page := range pages {
		if page >= s.Closed {
			continue
		}
		left, err := parkedRows.List(tx, key, pageName(page)+".")
		if err != nil {
			return struct{}{}, err
		}
		if len(left) == 0 {
			parkedPages.Delete(tx, key, pageName(page))
		}
	}
	return struct{}{}, nil
}

// loadParked makes a runner for every lane of a partition that has parked messages.
func (w *Worker) loadParked(ctx context.Context, has func(key string) bool) error {
	return w.Bus.View(ctx, func(r bus.Reader) error {
		pages, err := parkedPages.ListKeys(r, "")
		for _, p := range pages {
			var page uint64
			if n, err := fmt.Sscanf(p.Row, "%x", &page); n != 1 || err != nil || !has(p.Key) {
				continue
			}
			lane := w.runner(p.Value)
			lane.do(func(time.Time) {
				lane.parked.addCold(page)
				lane.parked.last = max(lane.parked.last, (page+1)*pageRows)
			})
		}
		return err
	})
}
