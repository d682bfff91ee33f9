package delta

// Chunks end where a rolling hash over the last 64 bytes is low. The hash is
// that of "Ddelta" (Fu et al., 2014): shift, then add a random number that
// stands for the byte; older bytes leave at the top. Its upper bits depend on
// the most bytes, so they are what is looked at.
//
// Chunking is normalised as in FastCDC (Xia et al., 2016): borders are less
// likely before the average size is reached and more likely after it, so that
// few chunks are cut at the maximum, where borders do not move with the content.
//
// How likely, and what the minimum is, was tried out on random content, by the
// bytes from an insertion to the next border that the old content has too.
// Borders 1/average and then 4/average likely, above half the average, take
// 10.1 KB on average for chunks of 8.6 KB, and 28 KB at the 99th percentile.
// FastCDC's usual choice (a quarter of the average; 1/4 and 4) takes 11.1 KB and
// 35 KB, and none (a quarter; 1) 17 KB and 52 KB.

// window is the number of bytes that the rolling hash depends on.
const window = 64

// gear holds the number of each byte value. Lists are comparable only if they
// were made with the same table, so its seed is part of their format.
var gear = newGear(0x6275646769652f31)

// newGear fills a table from a seed with SplitMix64 (Steele et al., 2014).
func newGear(seed uint64) *[256]uint64 {
	var table [256]uint64
	for i := range table {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		table[i] = z ^ z>>31
	}
	return &table
}

// cutter finds where chunks end, in content that comes piece by piece.
type cutter struct {
	// warm is where in a chunk hashing begins, first where its end may be.
	warm, first, normal, last int
	// early and late are what the hash must be below before and after normal.
	early, late uint64

	// pos is the number of bytes of the chunk so far, hash that of its end.
	pos  int
	hash uint64
}

func newCutter(c Class) cutter {
	averageBits := minAverageBits + int(c)
	return cutter{
		warm:   c.Min() - window,
		first:  c.Min(),
		normal: c.Average(),
		last:   c.Max(),
		// The hash is below 2^(64-n) once in 2^n bytes.
		early: 1 << (64 - averageBits),
		late:  1 << (64 - averageBits + 2),
	}
}

// next returns how many bytes of p belong to the chunk under way, and whether
// it ends with them. It is called again with the rest.
func (c *cutter) next(p []byte) (n int, end bool) {
	pos := c.pos
	if pos < c.warm {
		n = min(len(p), c.warm-pos)
		pos += n
	}
	h := c.hash
	if pos < c.first-1 {
		warm := p[n:min(len(p), n+c.first-1-pos)]
		for _, b := range warm {
			h = h<<1 + gear[b]
		}
		n += len(warm)
		pos += len(warm)
	}
	for _, part := range [...]struct {
		upTo  int
		below uint64
	}{{c.normal, c.early}, {c.last, c.late}} {
		if pos >= part.upTo {
			continue
		}
		piece := p[n:min(len(p), n+part.upTo-pos)]
		var m int
		if m, h, end = roll(piece, h, part.below); end {
			c.pos, c.hash = 0, 0
			return n + m, true
		}
		n += m
		pos += m
	}
	if pos == c.last {
		c.pos, c.hash = 0, 0
		return n, true
	}
	c.pos, c.hash = pos, h
	return n, false
}

// roll hashes p up to the first byte with which the hash is below a limit. It
// is the only code that sees every byte, so it takes four at a time: their
// numbers are added up without waiting for the hash of those before. The race
// detector would look at every byte as well, and take ten times as long; it sees p
// where it is hashed.
//
//go:norace
func roll(p []byte, h, below uint64) (n int, hash uint64, found bool) {
	table := gear
	for ; len(p)-n >= 4; n += 4 {
		q := p[n : n+4 : n+4]
		s1 := table[q[0]]
		s2 := s1<<1 + table[q[1]]
		s3 := s2<<1 + table[q[2]]
		s4 := s3<<1 + table[q[3]]
		if h<<1+s1 < below || h<<2+s2 < below || h<<3+s3 < below || h<<4+s4 < below {
			break // the loop below finds out which
		}
		h = h<<4 + s4
	}
	for ; n < len(p); n++ {
		h = h<<1 + table[p[n]]
		if h < below {
			return n + 1, h, true
		}
	}
	return n, h, false
}
