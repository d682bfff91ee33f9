package peer

import (
	"errors"
	"strconv"
	"strings"
)

// errRange: a range begins beyond the end.
var errRange = errors.New("the range begins beyond the end")

// byteRange is a part of what has a size, in bytes.
type byteRange struct{ from, length int64 }

// parseRange reads the header Range (RFC 9110 section 14.2) for something of a
// size. part is false where everything is to be sent: without the header, and
// as the RFC wants it, for units and forms that are not understood, of which a
// list of several ranges is one here.
func parseRange(header string, size int64) (r byteRange, part bool, err error) {
	all := byteRange{0, size}
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return all, false, nil
	}
	first, last, ok := strings.Cut(spec, "-")
	from, fromOK := number(first)
	to, toOK := number(last)
	switch {
	case !ok || first != "" && !fromOK || last != "" && !toOK || first == "" && last == "" || fromOK && toOK && to < from:
		return all, false, nil
	case first == "" && (to == 0 || size == 0) || fromOK && from >= size:
		return byteRange{}, false, errRange
	case first == "":
		n := min(to, size)
		return byteRange{size - n, n}, true, nil
	case last == "":
		return byteRange{from, size - from}, true, nil
	}
	to = min(to, size-1)
	return byteRange{from, to - from + 1}, true, nil
}

// number reads digits, and nothing else. More of them than fit are a very large
// number.
func number(s string) (int64, bool) {
	if !consists(s, "0123456789", 64) {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, true
}
