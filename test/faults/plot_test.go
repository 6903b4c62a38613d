package faults

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// Measures of the plot, in the units of its view box.
const (
	plotWidth                          = 1000
	plotLeft, plotRight                = 70, 980
	plotTop, plotBottom                = 96, 436
	legendTop, legendLine, legendSplit = 512, 18, 2
	plotBin                            = 250 * time.Millisecond
)

// plot draws latencies over a run: by 250 ms the median and the span from the 5th to the 95th percentile, the highest as
// dots, and the faults as numbered spans. Colours are for light pages; the style changes them on dark ones.
func plot(title string, begun, ended time.Time, points []point, faults []mark) string {
	p := &plotter{begun: begun, length: ended.Sub(begun), least: 10 * time.Millisecond, most: 100 * time.Millisecond}
	for _, q := range points {
		for q.latency > p.most {
			p.most *= 10
		}
		for q.latency < p.least && p.least > time.Millisecond {
			p.least /= 10
		}
	}
	lines := (len(faults) + legendSplit - 1) / legendSplit
	p.start(title, legendTop+lines*legendLine+14)
	p.axes()
	p.marks(faults)
	p.latencies(points)
	p.legend(faults)
	p.printf("</svg>\n")
	return p.String()
}

type plotter struct {
	strings.Builder
	begun       time.Time
	length      time.Duration
	least, most time.Duration // of the axis
}

func (p *plotter) printf(format string, args ...any) { fmt.Fprintf(&p.Builder, format, args...) }

func (p *plotter) x(at time.Time) float64 {
	share := float64(at.Sub(p.begun)) / float64(p.length)
	return plotLeft + (plotRight-plotLeft)*min(max(share, 0), 1)
}

func (p *plotter) y(latency time.Duration) float64 {
	share := math.Log(float64(max(latency, p.least))/float64(p.least)) / math.Log(float64(p.most)/float64(p.least))
	return plotBottom - (plotBottom-plotTop)*share
}

func (p *plotter) start(title string, height int) {
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12" role="img">
<title>%s</title>
<style>
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117 } .ink { fill: #e6edf3 } .soft { fill: #9da7b3 } .grid { stroke: #30363d } .frame { stroke: #6e7681 }
.band { fill: #58a6ff } .median { stroke: #79c0ff } .top { fill: #79c0ff } .harm { fill: #ff7b72 } .edge { stroke: #ff7b72 } .number { fill: #ff7b72 }
}
</style>
<rect class="page" width="%d" height="%d" rx="8" fill="#ffffff"/>
<text class="ink" x="%d" y="30" font-size="17" font-weight="600" fill="#1f2328">%s</text>
`, plotWidth, height, html.EscapeString(title), plotWidth, height, plotLeft, html.EscapeString(title))
	p.key()
}

// key explains the marks.
func (p *plotter) key() {
	const y = 52
	p.printf(`<line class="median" x1="%d" y1="%d" x2="%d" y2="%d" stroke="#0969da" stroke-width="1.6"/>`, plotLeft, y-4, plotLeft+22, y-4)
	p.text(plotLeft+28, y, "start", "median of 250 ms")
	p.printf(`<rect class="band" x="216" y="%d" width="22" height="10" fill="#0969da" fill-opacity="0.25"/>`, y-9)
	p.text(244, y, "start", "5th to 95th percentile")
	p.printf(`<circle class="top" cx="408" cy="%d" r="1.8" fill="#0969da"/>`, y-4)
	p.text(417, y, "start", "highest")
	p.printf(`<rect class="harm" x="492" y="%d" width="14" height="10" fill="#cf222e" fill-opacity="0.18"/>`, y-9)
	p.text(512, y, "start", "fault, numbered as below")
}

func (p *plotter) text(x, y float64, anchor, text string) {
	p.printf(`<text class="soft" x="%.1f" y="%.1f" text-anchor="%s" fill="#59636e">%s</text>`+"\n", x, y, anchor, html.EscapeString(text))
}

func (p *plotter) axes() {
	for v := p.least; v <= p.most; v *= 10 {
		y := p.y(v)
		p.printf(`<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#d1d9e0"/>`, plotLeft, y, plotRight, y)
		p.text(plotLeft-8, y+4, "end", axisTime(v))
	}
	step := 5 * time.Second
	for p.length/step > 20 {
		step *= 2
	}
	for at := time.Duration(0); at <= p.length; at += step {
		x := p.x(p.begun.Add(at))
		p.printf(`<line class="frame" x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#818b98"/>`, x, plotBottom, x, plotBottom+5)
		p.text(x, plotBottom+19, "middle", fmt.Sprint(int(at.Seconds())))
	}
	p.printf(`<line class="frame" x1="%d" y1="%d" x2="%d" y2="%d" stroke="#818b98"/>`, plotLeft, plotBottom, plotRight, plotBottom)
	p.text((plotLeft+plotRight)/2, plotBottom+40, "middle", "when the record was due to be published, seconds into the run")
	p.printf(`<text class="soft" transform="translate(16 %d) rotate(-90)" text-anchor="middle" fill="#59636e">until its effect was seen (log scale)</text>`+"\n", (plotTop+plotBottom)/2)
}

func axisTime(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

func (p *plotter) marks(faults []mark) {
	last, raised := -100.0, 0.0
	for i, m := range faults {
		from, to := p.x(m.from), p.x(m.to)
		if raised = 0; from-last < 18 { // the number would cover the one before
			raised = 13
		} else {
			last = from
		}
		p.printf(`<rect class="harm" x="%.1f" y="%d" width="%.1f" height="%d" fill="#cf222e" fill-opacity="0.12"/>`, from, plotTop, max(to-from, 1), plotBottom-plotTop)
		p.printf(`<line class="edge" x1="%.1f" y1="%.0f" x2="%.1f" y2="%d" stroke="#cf222e" stroke-opacity="0.7"/>`, from, plotTop-4-raised, from, plotBottom)
		p.printf(`<text class="number" x="%.1f" y="%.0f" text-anchor="middle" font-weight="600" fill="#cf222e">%d</text>`+"\n", from, plotTop-8-raised, i+1)
	}
}

// latencies draws the points, which are in the order of their time.
func (p *plotter) latencies(points []point) {
	var upper, lower, median, highest []string
	for len(points) > 0 {
		bin := points[0].due.Sub(p.begun).Truncate(plotBin)
		end := p.begun.Add(bin + plotBin)
		n := 0
		var list []time.Duration
		for n < len(points) && points[n].due.Before(end) {
			list = append(list, points[n].latency)
			n++
		}
		points = points[max(n, 1):]
		if len(list) == 0 {
			continue // before the run
		}
		slices.Sort(list)
		x := p.x(p.begun.Add(bin + plotBin/2))
		at := func(share float64) string {
			return fmt.Sprintf("%.1f,%.1f", x, p.y(list[int(share*float64(len(list)-1))]))
		}
		lower, median, upper = append(lower, at(.05)), append(median, at(.5)), append(upper, at(.95))
		highest = append(highest, fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="1.4"/>`, x, p.y(list[len(list)-1])))
	}
	slices.Reverse(lower)
	p.printf(`<polygon class="band" points="%s" fill="#0969da" fill-opacity="0.25"/>`+"\n", strings.Join(append(upper, lower...), " "))
	p.printf(`<polyline class="median" points="%s" fill="none" stroke="#0969da" stroke-width="1.6" stroke-linejoin="round"/>`+"\n", strings.Join(median, " "))
	p.printf(`<g class="top" fill="#0969da" fill-opacity="0.7">%s</g>`+"\n", strings.Join(highest, ""))
}

func (p *plotter) legend(faults []mark) {
	lines := (len(faults) + legendSplit - 1) / legendSplit
	for i, m := range faults {
		x := plotLeft + i/lines*(plotRight-plotLeft)/legendSplit
		y := legendTop + i%lines*legendLine
		p.printf(`<text class="number" x="%d" y="%d" text-anchor="end" font-weight="600" fill="#cf222e">%d</text>`, x+14, y, i+1)
		p.printf(`<text class="ink" x="%d" y="%d" fill="#1f2328">%s, %s</text>`+"\n", x+22, y, html.EscapeString(m.name), short(m.to.Sub(m.from)))
	}
}

// TestAPlotShowsEachFault draws a small one.
func TestAPlotShowsEachFault(t *testing.T) {
	t.Parallel()
	begun := time.Unix(0, 0)
	at := func(s float64) time.Time { return begun.Add(time.Duration(s * float64(time.Second))) }
	drawn := plot("A & B", begun, at(10), []point{{"k", at(1), 20 * time.Millisecond}, {"k", at(2), 3 * time.Second}},
		[]mark{{"one <fault>", at(3), at(4)}, {"another", at(6), at(6)}})
	for _, want := range []string{"A &amp; B", "one &lt;fault&gt;, 1.0 s", "another, 0.0 ms", ">10 s</text>", "<polyline"} {
		if !strings.Contains(drawn, want) {
			t.Errorf("the plot has no %q", want)
		}
	}
}
