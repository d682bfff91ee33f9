package replica

import "time"

// lossPeriod is how long what a copy loses counts, at least; twice that at most.
const lossPeriod = 5 * time.Minute

// losses is what a copy lost a little at a time: a large deletion takes a while, and its
// source is looked at meanwhile. What counts is both what went, files that are elsewhere in
// the volume aside, and by how many the files became fewer: in many a volume files come
// and go all the time. It is kept for this period, and the one before.
type losses struct {
	since     time.Time
	now, last period
}

// period is how many files a copy had at most, and how many went.
type period struct{ most, gone int }

// add notes that a copy has some files.
func (l *losses) add(at time.Time, files int) {
	switch age := at.Sub(l.since); {
	case age >= 2*lossPeriod:
		*l = losses{since: at}
	case age >= lossPeriod:
		*l = losses{since: l.since.Add(lossPeriod), last: l.now}
	}
	l.now.most = max(l.now.most, files)
}

// with returns how many files there were, and by how many they have become fewer, if some
// more go, and so many are left; none where only little went.
func (l *losses) with(gone, left int) (there, fewer int) {
	there = max(l.now.most, l.last.most)
	return there, max(0, min(there-left, l.now.gone+l.last.gone+gone))
}

// lose notes that files go.
func (l *losses) lose(gone int) { l.now.gone += gone }

// countNamed counts the files and links of a volume, by all of their names.
func countNamed(entries []entry) (n int) {
	for _, e := range entries {
		if e.kind == kindFile || e.kind == kindSymlink || e.kind == kindHardLink {
			n++
		}
	}
	return n
}
