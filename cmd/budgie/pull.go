package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/budgiehq/budgie/runtime"
)

// pulls shows how the images of containers come: as bars on a terminal, and
// elsewhere as lines. Its methods may be called concurrently.
type pulls struct {
	out  io.Writer
	bars bool

	mu   sync.Mutex
	each map[string]*pull // by container
	// screen holds the bars that are shown; nil while there are none.
	screen *mpb.Progress
	shown  []*mpb.Bar
}

// pull is what is shown of one container's image.
type pull struct {
	began, said time.Time
	layers      map[string]runtime.PullProgress // by digest
	bars        map[string]*mpb.Bar
}

func (a *app) newPulls() *pulls {
	return &pulls{out: a.stderr, bars: a.draws, each: map[string]*pull{}}
}

// saidEvery is how often a line says how far a pull is.
const saidEvery = 5 * time.Second

// show takes an event: see [budgie.OnPull].
func (d *pulls) show(name string, e runtime.PullProgress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	p := d.each[name]
	if p == nil {
		p = &pull{began: now, said: now, layers: map[string]runtime.PullProgress{}, bars: map[string]*mpb.Bar{}}
		d.each[name] = p
	}
	switch e.Step {
	case runtime.PullResolving:
		d.line("%s: pulling %s", name, e.Image)
	case runtime.PullRetrying:
		d.line("%s: the transfer broke off, and is tried again where it stopped: %v", name, e.Err)
	case runtime.PullFetching, runtime.PullFetched:
		p.layers[e.Blob] = e
		if d.bars {
			d.bar(name, p, e)
		} else if now.Sub(p.said) >= saidEvery {
			p.said = now
			done, total := p.sum()
			d.line("%s: %s of %s", name, size(done), size(total))
		}
	case runtime.PullDone:
		_, total := p.sum()
		d.line("%s: pulled %s, %s, in %s", name, e.Image, size(total), now.Sub(p.began).Round(100*time.Millisecond))
	}
	if e.Step == runtime.PullDone || e.Step == runtime.PullPresent {
		if delete(d.each, name); len(d.each) == 0 {
			d.settle()
		}
	}
}

// sum returns how much of the layers is there, and how much there is.
func (p *pull) sum() (done, total uint64) {
	for _, l := range p.layers {
		done, total = done+uint64(l.Offset), total+uint64(l.Total)
	}
	return done, total
}

// line prints a line, above the bars where there are some.
func (d *pulls) line(format string, args ...any) {
	text := printable(fmt.Sprintf(format, args...)) + "\n"
	if d.screen != nil {
		if _, err := io.WriteString(d.screen, text); err == nil {
			return
		}
	}
	fmt.Fprint(d.out, text)
}

// bar moves the bar of a layer.
func (d *pulls) bar(name string, p *pull, e runtime.PullProgress) {
	if d.screen == nil {
		d.screen = mpb.New(mpb.WithOutput(d.out), mpb.WithWidth(40))
	}
	b := p.bars[e.Blob]
	if b == nil {
		_, hash, _ := strings.Cut(e.Blob, ":")
		b = d.screen.AddBar(e.Total,
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("%s %.12s", name, hash), decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)),
		)
		p.bars[e.Blob] = b
		d.shown = append(d.shown, b)
	}
	b.SetCurrent(e.Offset)
}

// end shows what there is to show for the last time.
func (d *pulls) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle()
}

// settle lets the bars be where they are. The caller holds the lock.
func (d *pulls) settle() {
	if d.screen == nil {
		return
	}
	for _, b := range d.shown {
		b.Abort(false) // does nothing to those that are complete
	}
	d.screen.Wait()
	d.screen, d.shown = nil, nil
}
