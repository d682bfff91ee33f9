package main

import (
	"fmt"
	"io"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bars are progress bars on a terminal, with lines above them; elsewhere there are
// lines alone. Whoever has them calls one method at a time.
type bars struct {
	out   io.Writer
	draws bool
	// screen holds the bars that are shown; nil while there are none.
	screen *mpb.Progress
	shown  []*mpb.Bar
}

func (a *app) newBars() bars { return bars{out: a.stderr, draws: a.draws} }

// line prints a line, above the bars where there are some. What is in it may come
// from another node.
func (b *bars) line(format string, args ...any) {
	text := printable(fmt.Sprintf(format, args...)) + "\n"
	if b.screen != nil {
		if _, err := io.WriteString(b.screen, text); err == nil {
			return
		}
	}
	fmt.Fprint(b.out, text)
}

// add adds a bar for a total, 0 where that is yet to be known, with a name before
// and something behind it.
func (b *bars) add(name string, total int64, behind decor.Decorator) *mpb.Bar {
	if b.screen == nil {
		b.screen = mpb.New(mpb.WithOutput(b.out), mpb.WithWidth(40))
	}
	bar := b.screen.AddBar(total, mpb.PrependDecorators(decor.Name(printable(name), decor.WCSyncSpaceR)), mpb.AppendDecorators(behind))
	b.shown = append(b.shown, bar)
	return bar
}

// settle lets the bars be where they are.
func (b *bars) settle() {
	if b.screen == nil {
		return
	}
	for _, bar := range b.shown {
		bar.Abort(false) // does nothing to those that are complete
	}
	b.screen.Wait()
	b.screen, b.shown = nil, nil
}
