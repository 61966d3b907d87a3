//go:build linux

package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// figure is one thing that a benchmark has measured.
type figure struct {
	unit  string
	value float64
}

// run is what one run of a benchmark has measured.
type run []figure

// results is what all benchmarks have measured.
var results table

type table struct {
	names []string // in the order of their first run
	runs  map[string][]run
}

// report notes what b has measured with its present b.N, in place of what it measured with a smaller one.
func report(b *testing.B, figures ...figure) {
	b.ReportMetric(0, "ns/op") // says nothing that the figures do not
	for _, f := range figures {
		b.ReportMetric(f.value, f.unit)
	}
	results.add(strings.TrimPrefix(b.Name(), "Benchmark"), b.N == 1, figures)
}

// add adds a run, or the continuation of the last one.
func (t *table) add(name string, begins bool, figures run) {
	runs, known := t.runs[name]
	if !known {
		if t.runs == nil {
			t.runs = map[string][]run{}
		}
		t.names = append(t.names, name)
	}
	if begins || len(runs) == 0 {
		t.runs[name] = append(runs, figures)
	} else {
		runs[len(runs)-1] = figures
	}
}

// print writes the table, with a headline wherever the figures are others than in the line before.
func (t *table) print(w io.Writer) {
	if len(t.names) == 0 {
		return
	}
	out := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	var headline string
	for _, name := range t.names {
		runs := t.runs[name]
		var units, line strings.Builder
		for i, f := range runs[0] {
			values := make([]float64, len(runs))
			for j, r := range runs {
				values[j] = r[i].value
			}
			units.WriteString(f.unit + "\t")
			line.WriteString(summary(values) + "\t")
		}
		if units.String() != headline {
			headline = units.String()
			out.Flush() // so that each part has its own columns
			fmt.Fprintf(out, "\n%s\t%s\n", strings.Repeat(" ", 36), headline)
		}
		fmt.Fprintf(out, "%-36s\t%s\n", name, line.String())
	}
	out.Flush()
	fmt.Fprintln(w)
}

// summary is the median of values, and how far half of their range is from it.
func summary(values []float64) string {
	sorted := slices.Sorted(slices.Values(values))
	least, median, most := sorted[0], sorted[len(sorted)/2], sorted[len(sorted)-1]
	if len(values) == 1 || median == 0 {
		return number(median)
	}
	return fmt.Sprintf("%s ±%.0f%%", number(median), 100*(most-least)/2/median)
}

// number has three digits that count, or all before the point.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// micros is a duration in microseconds.
func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// percentile returns the value that so many of 100 do not exceed. It sorts durations.
func percentile(durations []time.Duration, percent int) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	slices.Sort(durations)
	return durations[(len(durations)-1)*percent/100]
}

func TestTheTableShowsMedians(t *testing.T) {
	var got strings.Builder
	table := table{}
	for _, v := range []float64{90, 110, 100} {
		table.add("Thing/of=1", true, run{{"req/s", 1}, {"p50-us", 2}}) // with b.N of 1
		table.add("Thing/of=1", false, run{{"req/s", v * 100}, {"p50-us", 2.5}})
	}
	table.add("Other", true, run{{"MB", 12.345}})
	table.print(&got)
	lines := strings.Fields(got.String())
	want := []string{"req/s", "p50-us", "Thing/of=1", "10000", "±10%", "2.50", "±0%", "MB", "Other", "12.3"}
	if !slices.Equal(lines, want) {
		t.Errorf("the table is\n%s\nwant %q", got.String(), want)
	}
}
