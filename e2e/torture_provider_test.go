package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// witness is the simulator, with a book of what reaches it for each provider key.
// All its times are by one monotonic clock, which the clients go by as well.
type witness struct {
	*simulator.Server
	url   string
	began time.Time

	mu    sync.Mutex
	books map[string]*book
}

// book is what a provider has seen of the holder of one key.
type book struct {
	mu       sync.Mutex
	visits   []visit
	inflight int
	peak     int // of inflight, since it was last asked for
	highest  int // of inflight, ever
}

// visit is a request that has reached a provider.
type visit struct {
	sent time.Duration // when its client began to send it
	came time.Duration // when the provider had it
}

func newWitness(t *testing.T) *witness {
	t.Helper()
	w := &witness{Server: simulator.New(simulator.Options{Pace: -1}), began: time.Now(), books: make(map[string]*book)}
	server := httptest.NewServer(w)
	w.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return w
}

func (w *witness) now() time.Duration { return time.Since(w.began) }

// book is the one of a key.
func (w *witness) book(key string) *book {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.books[key]
	if b == nil {
		b = new(book)
		w.books[key] = b
	}
	return b
}

// ServeHTTP implements [http.Handler].
func (w *witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	v := visit{came: w.now()}
	b := w.book(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	b.enter()
	// It leaves before the last of its answer is on its way, or when its connection
	// has broken: the proxy counts it for as long, or longer.
	defer b.leave()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	var asked struct {
		Metadata struct {
			Sent int64 `json:"sent,string"`
		}
	}
	if err = cmp.Or(err, json.Unmarshal(body, &asked)); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return // its sender was killed while it sent
	}
	v.sent = time.Duration(asked.Metadata.Sent)
	b.note(v)
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.Server.ServeHTTP(rw, r)
}

func (b *book) enter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inflight++
	b.peak, b.highest = max(b.peak, b.inflight), max(b.highest, b.inflight)
}

func (b *book) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inflight--
}

func (b *book) note(v visit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.visits = append(b.visits, v)
}

func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.visits)
}

// peaked reports whether as many requests were under way at once since it was last
// asked.
func (b *book) peaked(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	reached := b.peak >= n
	b.peak = b.inflight
	return reached
}

func (b *book) most() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.highest
}

func (b *book) all() []visit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.visits)
}

// between counts the visits that were sent and have come within a time.
func (b *book) between(from, to time.Duration) (n int) {
	for _, v := range b.all() {
		if v.sent >= from && v.came < to {
			n++
		}
	}
	return n
}

// span is a time in which something was out of order.
type span struct{ from, to time.Duration }

// onTheWay is how long a request may take from the decision to the provider.
const onTheWay = 50 * time.Millisecond

// densest is how many requests at most were certainly admitted within one window,
// of the windows that touch a span and of the others.
//
// A request was admitted at most onTheWay before it came: that is the window less
// onTheWay, by the provider's stamps. One that took longer than that in all was
// admitted after it was sent, and nobody knows more, as on a machine that is busy.
func densest(visits []visit, window time.Duration, spans []span) (touching, elsewhere int) {
	type known struct{ after, before time.Duration } // when it was admitted
	all := make([]known, len(visits))
	starts := make([]time.Duration, 0, len(visits)+len(spans))
	for i, v := range visits {
		all[i] = known{min(v.sent, v.came-onTheWay), v.came}
		starts = append(starts, all[i].after)
	}
	for _, s := range spans {
		starts = append(starts, s.from-window, s.from-window+1, s.to)
	}
	slices.SortFunc(all, func(a, b known) int { return cmp.Compare(a.after, b.after) })
	for _, start := range starts {
		end := start + window
		i, _ := slices.BinarySearchFunc(all, start, func(k known, at time.Duration) int { return cmp.Compare(k.after, at) })
		n := 0
		for ; i < len(all) && all[i].after < end; i++ {
			if all[i].before < end {
				n++
			}
		}
		if slices.ContainsFunc(spans, func(s span) bool { return start < s.to && s.from < end }) {
			touching = max(touching, n)
		} else {
			elsewhere = max(elsewhere, n)
		}
	}
	return touching, elsewhere
}

// TestDensest is about the judge itself.
func TestDensest(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	at := func(moments ...time.Duration) (list []visit) {
		for _, m := range moments {
			list = append(list, visit{m - ms, m})
		}
		return list
	}
	for name, tc := range map[string]struct {
		visits              []visit
		spans               []span
		touching, elsewhere int
	}{
		"none":                    {nil, nil, 0, 0},
		"all at once":             {at(500*ms, 500*ms, 500*ms), nil, 0, 3},
		"a window apart":          {at(500*ms, 1450*ms, 2400*ms), nil, 0, 1},
		"less than that":          {at(500*ms, 1449*ms, 2398*ms), nil, 0, 2},
		"slow on the way":         {[]visit{{100 * ms, 900 * ms}, {1200 * ms, 1210 * ms}}, nil, 0, 1},
		"slow, but within it":     {[]visit{{500 * ms, 900 * ms}, {1200 * ms, 1210 * ms}}, nil, 0, 2},
		"within a span":           {at(500*ms, 600*ms, 2500*ms), []span{{450 * ms, 700 * ms}}, 2, 1},
		"before and after a span": {at(100*ms, 500*ms, 700*ms, 3000*ms, 3100*ms, 3200*ms), []span{{1500 * ms, 1600 * ms}}, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			if touching, elsewhere := densest(tc.visits, time.Second, tc.spans); touching != tc.touching || elsewhere != tc.elsewhere {
				t.Errorf("%d touching and %d elsewhere, want %d and %d", touching, elsewhere, tc.touching, tc.elsewhere)
			}
		})
	}
}
