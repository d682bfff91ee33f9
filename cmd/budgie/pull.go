package main

import (
	"fmt"
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
	mu sync.Mutex
	bars
	each map[string]*pull // by container
}

// pull is what is shown of one container's image.
type pull struct {
	began, said time.Time
	layers      map[string]runtime.PullProgress // by digest
	bars        map[string]*mpb.Bar
}

func (a *app) newPulls() *pulls {
	return &pulls{bars: a.newBars(), each: map[string]*pull{}}
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
		if d.draws {
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

// bar moves the bar of a layer.
func (d *pulls) bar(name string, p *pull, e runtime.PullProgress) {
	b := p.bars[e.Blob]
	if b == nil {
		_, hash, _ := strings.Cut(e.Blob, ":")
		b = d.add(fmt.Sprintf("%s %.12s", name, hash), e.Total, decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace))
		p.bars[e.Blob] = b
	}
	b.SetCurrent(e.Offset)
}

// end shows what there is to show for the last time.
func (d *pulls) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle()
}
