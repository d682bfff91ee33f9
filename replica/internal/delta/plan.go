package delta

// Kind says what an Op does.
type Kind uint8

// Kinds of operations. The zero value is none.
const (
	// Copy takes bytes from the old content.
	Copy Kind = iota + 1
	// Literal takes bytes that are sent along.
	Literal
)

// Op is one step in putting new content together, from its beginning to its
// end.
type Op struct {
	Kind Kind
	// Offset is where the bytes stand: for Copy in the old content, for Literal
	// in the new one, which is also where they go.
	Offset int64
	// Length is the number of bytes, at least 1.
	Length int64
}

// Plan returns how the content of one list is made out of that of another.
// The operations cover the new content from its beginning to its end, without
// a gap. Neighbours are merged, so there are never two literals in a row, nor
// two copies of what stands one behind the other. A nil old list stands for
// empty content. It takes linear time, and memory for what lies between the
// first and the last difference.
func Plan(old, next *List) []Op {
	if old == nil {
		old = &List{}
	}
	was, is := old.chunks, next.chunks
	head, headSize := common(was, is, func(c []chunk, i int) chunk { return c[i] })
	was, is = was[head:], is[head:]
	tail, tailSize := common(was, is, func(c []chunk, i int) chunk { return c[len(c)-1-i] })
	is = is[:len(is)-tail]

	var p planner
	p.copy(0, headSize)
	p.middle(old.chunks, head, headSize, is)
	p.copy(old.size-tailSize, tailSize)
	return p.ops
}

// common counts the chunks that two lists have in common, and their bytes, in
// an order.
func common(a, b []chunk, at func([]chunk, int) chunk) (n int, size int64) {
	for n < len(a) && n < len(b) && at(a, n) == at(b, n) {
		size += int64(at(a, n).length)
		n++
	}
	return n, size
}

// planner collects operations.
type planner struct {
	ops []Op
	at  int64
}

func (p *planner) copy(offset, length int64)    { p.add(Op{Copy, offset, length}) }
func (p *planner) literal(offset, length int64) { p.add(Op{Literal, offset, length}) }

func (p *planner) add(op Op) {
	if op.Length == 0 {
		return
	}
	p.at += op.Length
	if n := len(p.ops); n > 0 {
		last := &p.ops[n-1]
		if last.Kind == op.Kind && last.Offset+last.Length == op.Offset {
			last.Length += op.Length
			return
		}
	}
	p.ops = append(p.ops, op)
}

// middle plans chunks that may stand anywhere in the old content. index and
// offset say what follows there on what was planned last.
func (p *planner) middle(old []chunk, index int, offset int64, is []chunk) {
	if len(is) == 0 {
		return
	}
	places := newIndex(is)
	places.find(old)
	for _, c := range is {
		length := int64(c.length)
		if index >= len(old) || old[index] != c {
			// Not what follows: of the places of a chunk that repeats, only the
			// first is known, and would break the copy at every repetition.
			found := places.of(c)
			if found.index < 0 {
				p.literal(p.at, length)
				continue
			}
			index, offset = found.index, found.offset
		}
		p.copy(offset, length)
		index++
		offset += length
	}
}
