package limit

import "time"

// buckets is how many counters a window has: those of its length, and one more,
// since the newest is only partly over.
const buckets = 61

// width is how long a bucket is, in microseconds.
func width(w time.Duration) int64 {
	us := w.Microseconds()
	return (us + buckets - 2) / (buckets - 1)
}

// window counts what was admitted, by time. Bucket i is for the microseconds from
// i·width on; of a window as a whole the buckets newest-60 to newest count. It
// does not know its limit, which may change at any time. take.lua has the same for
// Redis.
type window struct {
	newest int64
	sum    int64 // of all counters
	ring   [buckets]int64
}

// index is the bucket of now. A clock that steps back does not go back to buckets
// that have been left.
func (w *window) index(now, width int64) int64 { return max(now/width, w.newest) }

// live is the sum as of bucket i, which is not older than the newest.
func (w *window) live(i int64) int64 {
	if i-w.newest >= buckets {
		return 0
	}
	sum := w.sum
	for j := w.newest + 1; j <= i; j++ {
		sum -= w.ring[j%buckets]
	}
	return sum
}

// advance empties what has left the window when bucket i begins.
func (w *window) advance(i int64) {
	if i-w.newest >= buckets {
		*w = window{newest: i}
		return
	}
	for w.newest < i {
		w.newest++
		w.sum -= w.ring[w.newest%buckets]
		w.ring[w.newest%buckets] = 0
	}
}

// add counts a weight in bucket i, which becomes the newest.
func (w *window) add(i, weight int64) {
	w.advance(i)
	// What is charged without having been admitted may pile up, but not run over.
	weight = min(weight, 4*MaxAmount-w.sum)
	w.sum += weight
	w.ring[i%buckets] += weight
}

// backdate counts a weight in bucket j, if that still counts.
func (w *window) backdate(j, weight int64) {
	if j > w.newest {
		w.advance(j)
	}
	if j < 0 || j <= w.newest-buckets {
		return
	}
	weight = min(weight, 4*MaxAmount-w.sum)
	w.sum += weight
	w.ring[j%buckets] += weight
}

// refund gives a weight back to the bucket that it was taken from.
func (w *window) refund(j, weight int64) {
	if j < 0 || j > w.newest || j <= w.newest-buckets {
		return
	}
	weight = min(weight, w.ring[j%buckets])
	w.sum -= weight
	w.ring[j%buckets] -= weight
}

// at is the counter of bucket j as of bucket i.
func (w *window) at(j, i int64) int64 {
	if j < 0 || j > w.newest || j <= i-buckets || j <= w.newest-buckets {
		return 0
	}
	return w.ring[j%buckets]
}

// wait is how long it takes from now, in bucket i, until an excess has left.
func (w *window) wait(i, now, width, excess int64) int64 {
	for j := i - buckets + 1; j <= w.newest; j++ {
		if excess -= w.at(j, i); excess <= 0 {
			return (j+buckets)*width - now
		}
	}
	return 0
}

// reset is how long it takes from now, in bucket i, until all has left.
func (w *window) reset(i, now, width int64) int64 {
	for j := w.newest; j > i-buckets; j-- {
		if w.at(j, i) > 0 {
			return (j+buckets)*width - now
		}
	}
	return 0
}

// merge counts what other does.
func (w *window) merge(other *window) {
	for j := max(0, other.newest-buckets+1); j <= other.newest; j++ {
		if n := other.at(j, other.newest); n > 0 {
			w.backdate(j, n)
		}
	}
}
