package balance

import (
	"net/http"
	"time"
)

// dateText is the value of Date for a second.
type dateText struct {
	second int64
	text   string
}

// appendDate appends the field Date of a time (RFC 9110 section 6.6.1).
func (p *fastPath) appendDate(out []byte, now time.Time) []byte {
	d := p.date.Load()
	if d == nil || d.second != now.Unix() {
		d = &dateText{now.Unix(), now.UTC().Format(http.TimeFormat)}
		p.date.Store(d)
	}
	return append(append(append(out, "Date: "...), d.text...), "\r\n"...)
}
