package mdns

import (
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// asks are the questions to send on each link, each once.
type asks map[int]map[question]struct{}

func (a asks) add(link int, q question) {
	if a[link] == nil {
		a[link] = make(map[question]struct{})
	}
	a[link][q] = struct{}{}
}

// sweep forgets what has expired and, if refresh is wanted, returns the
// questions for what is about to. It sets next.
func (c *cache) sweep(now time.Time, refresh bool) asks {
	ask := make(asks)
	c.next = time.Time{}
	for name, h := range c.hosts {
		c.sweepHost(name, h, now, refresh, ask)
	}
	for _, i := range c.instances {
		for link, v := range i.links {
			c.sweepView(i, link, v, now, refresh, ask)
		}
		if len(i.links) == 0 {
			c.forget(i)
		}
	}
	return ask
}

func (c *cache) sweepHost(name string, h *host, now time.Time, refresh bool, ask asks) {
	for link, addrs := range h.links {
		for addr, l := range addrs {
			if !l.alive(now) {
				delete(addrs, addr)
				for i := range h.users {
					c.changed[i.short] = struct{}{}
				}
				continue
			}
			if refresh && l.due(now) {
				ask.add(link, question{name, typeANY})
			}
			c.next = earliest(c.next, l.next(refresh))
		}
	}
}

func (c *cache) sweepView(i *instance, link int, v *view, now time.Time, refresh bool, ask asks) {
	alive := false
	for _, part := range []struct {
		life *life
		ask  question
	}{
		{&v.ptr, question{serviceName, dnsmessage.TypePTR}},
		{&v.srv, question{i.name, typeANY}},
		{&v.txt, question{i.name, typeANY}},
	} {
		switch {
		case part.life.alive(now):
			alive = true
			if refresh && part.life.due(now) {
				ask.add(link, part.ask)
			}
			c.next = earliest(c.next, part.life.next(refresh))
		case part.life.ttl > 0:
			c.vanished = c.vanished || !part.life.leaving()
			*part.life = life{}
			c.changed[i.short] = struct{}{}
		}
	}
	if !alive {
		delete(i.links, link)
		c.point(i, v, "")
		return
	}
	if refresh {
		c.resolveView(i, link, v, now, ask)
	}
}

const (
	// resolveDelay is how long the parts of an instance may take to come by
	// themselves, as additional records and in further packets.
	resolveDelay = 100 * time.Millisecond
	// resolveTries is how often they are asked for: after one second, two, four.
	resolveTries = 4
	// resolveAtOnce bounds the questions of one moment, for the case that
	// somebody announces many instances that do not exist.
	resolveAtOnce = 64
)

// resolveView asks for what an instance lacks on a link.
func (c *cache) resolveView(i *instance, link int, v *view, now time.Time, ask asks) {
	missing := c.missing(i, link, v, now)
	switch {
	case !v.ptr.alive(now) || v.ptr.leaving() || len(missing) == 0:
		v.askAt, v.tries = time.Time{}, 0
		return
	case v.tries >= resolveTries:
		return
	case v.askAt.IsZero():
		v.askAt = now.Add(resolveDelay)
	case !now.Before(v.askAt) && len(ask[link]) >= resolveAtOnce:
		v.askAt = now.Add(time.Second)
	case !now.Before(v.askAt):
		for _, q := range missing {
			ask.add(link, q)
		}
		v.askAt = now.Add(time.Second << v.tries)
		v.tries++
	}
	c.next = earliest(c.next, v.askAt)
}

// forget removes an instance without views.
func (c *cache) forget(i *instance) {
	delete(c.instances, i.name)
	delete(c.short[i.short], i)
	if len(c.short[i.short]) == 0 {
		delete(c.short, i.short)
	}
	if c.sources[i.source]--; c.sources[i.source] <= 0 {
		delete(c.sources, i.source)
	}
	c.changed[i.short] = struct{}{}
}
