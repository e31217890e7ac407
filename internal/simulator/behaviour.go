package simulator

import (
	"strconv"
	"strings"
	"time"
)

const (
	injectionPrefix = "sim-"
	maxBig          = 64 << 20
	maxChunks       = 100_000
	maxDelay        = 24 * time.Hour
)

// behaviour is what a model name orders. Its zero value, completed by the
// server's options, is a provider that works.
type behaviour struct {
	firstByte time.Duration
	pace      time.Duration
	chunks    int
	big       int           // bytes of answer text, 0 for as many as chunks make
	silent    time.Duration // pause after half of the answer
	status    int           // error status to answer with

	hang, abort, abortHeaders, errorMidstream bool
	truncate, noUsage, cached                 bool
	redirect, cookie, crlf, trailer, echo     bool
	reasoning                                 bool
}

// behaviourOf reads a model name. Names that do not start with "sim-" order
// nothing. Several orders may be joined by "+", as in
// "sim-chunks-200+pace-5ms". It reports false for an unknown order.
func (s *Server) behaviourOf(model string) (behaviour, bool) {
	b := behaviour{
		firstByte: s.opt.FirstByte,
		pace:      s.opt.Pace,
		chunks:    s.opt.Chunks,
		reasoning: strings.Contains(model, "reason"),
	}
	orders, ok := strings.CutPrefix(model, injectionPrefix)
	if !ok {
		return b, true
	}
	for order := range strings.SplitSeq(orders, "+") {
		if !b.apply(strings.TrimPrefix(order, injectionPrefix)) {
			return behaviour{}, false
		}
	}
	return b, true
}

// apply adds one order, reporting whether it exists.
func (b *behaviour) apply(order string) bool {
	if flag := b.flag(order); flag != nil {
		*flag = true
		return true
	}
	if order == "slow" {
		b.firstByte = 2 * time.Second
		return true
	}
	i := strings.LastIndexByte(order, '-')
	if i < 0 {
		return false
	}
	name, value := order[:i], order[i+1:]
	switch name {
	case "error":
		return number(value, 400, 599, &b.status)
	case "slow":
		return delay(value, &b.firstByte)
	case "pace":
		return delay(value, &b.pace)
	case "silent":
		return delay(value, &b.silent)
	case "chunks":
		return number(value, 1, maxChunks, &b.chunks)
	case "big":
		return number(value, 1, maxBig, &b.big)
	}
	return false
}

// flag returns the switch an order without a value turns on, if any.
func (b *behaviour) flag(order string) *bool {
	switch order {
	case "hang":
		return &b.hang
	case "abort":
		return &b.abort
	case "abort-headers":
		return &b.abortHeaders
	case "error-midstream":
		return &b.errorMidstream
	case "truncate":
		return &b.truncate
	case "nousage":
		return &b.noUsage
	case "cached":
		return &b.cached
	case "redirect":
		return &b.redirect
	case "cookie":
		return &b.cookie
	case "crlf":
		return &b.crlf
	case "trailer":
		return &b.trailer
	case "echo":
		return &b.echo
	case "reason":
		return &b.reasoning
	}
	return nil
}

func number(s string, low, high int, dst *int) bool {
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return false
	}
	*dst = n
	return true
}

func delay(s string, dst *time.Duration) bool {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxDelay {
		return false
	}
	*dst = d
	return true
}
