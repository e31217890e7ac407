package audit

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/gofrs/uuid/v5"
)

// Bounds of a Recorder. Strangers cause what it records, so each kind has a
// ceiling: beyond it events are counted, and the count is one entry.
const (
	maxQueue            = 8192 // entries that wait to be recorded
	maxBatch            = 500  // entries of one transaction
	maxDenied           = 2048 // kinds of denied requests told apart within a minute
	MaxLoginsPerClient  = 10   // entries a minute for failed logins from one address
	MaxLogins           = 100  // and from all of them
	flushEvery          = 2 * time.Second
	closeTimeout        = 5 * time.Second
	reasonFurther       = "further_refusals" // of the entry that counts what was beyond a ceiling
	reasonLoginRejected = "unauthorized"
)

// RecorderConfig is what a Recorder needs. Record is required.
type RecorderConfig struct {
	// Record keeps entries for good, all or none.
	Record func(ctx context.Context, entries []Entry) error
	// Passing reports that an error of Record may go away by itself, so that the
	// entries are kept for another try. nil: none does.
	Passing func(error) bool
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: discard
}

// Recorder records refusals, off the path of the requests that they belong to:
// they change nothing, so nothing has to commit with them. It never blocks, its
// memory is bounded, and what it must drop it counts. It is safe for concurrent use;
// the nil Recorder records nothing.
type Recorder struct {
	cfg RecorderConfig

	mu       sync.Mutex
	queue    []Entry
	dropped  int64
	reported int64 // of dropped
	minute   time.Time
	logins   map[string]int // entries by client, this minute
	admitted int            // entries for logins, this minute
	further  int64          // logins beyond the ceiling, this minute
	denied   map[denial]int64
	others   int64 // denials beyond the ceiling, this minute

	flushing sync.Mutex // one writer, so that entries stay in order
	failing  bool       // held with flushing; so that an outage is logged once
	stop     context.CancelFunc
	done     chan struct{}
}

// denial is what denied requests are told apart by.
type denial struct {
	token, project uuid.UUID
	code           string
	client         netip.Addr
}

// NewRecorder makes a Recorder. It records nothing before [Recorder.Start] or
// [Recorder.Flush].
func NewRecorder(cfg RecorderConfig) *Recorder {
	if cfg.Passing == nil {
		cfg.Passing = func(error) bool { return false }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Recorder{cfg: cfg, logins: map[string]int{}, denied: map[denial]int64{}}
}

// Start records every few seconds from now on, until Close. Calling it again
// does nothing.
func (r *Recorder) Start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop, r.done = stop, make(chan struct{})
	go func() {
		defer close(r.done)
		ticker := time.NewTicker(flushEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				r.Flush(ctx)
			}
		}
	}()
}

// Close records what is left, within a few seconds, and ends what Start began.
func (r *Recorder) Close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	stop, done := r.stop, r.done
	r.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	r.mu.Lock()
	r.endMinute()
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	r.Flush(ctx)
}

// Refused records a call that was understood and refused.
func (r *Recorder) Refused(e Entry) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Time = r.now()
	r.push(e)
}

// Login records a failed login: some of them one by one, the others as a count.
func (r *Recorder) Login(e Entry) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Time = r.now()
	if r.admitted >= MaxLogins || r.logins[e.ClientIP] >= MaxLoginsPerClient {
		r.further++
		return
	}
	r.admitted++
	r.logins[e.ClientIP]++ // at most MaxLogins of them
	e.Actor, e.Action, e.Outcome, e.Reason = ActorAnonymous, ManagementLogin, OutcomeDenied, reasonLoginRejected
	r.push(e)
}

// Denied counts a request that policy has refused. One entry a minute stands for
// all of the same token, code and client.
func (r *Recorder) Denied(tokenID, projectID uuid.UUID, code string, client netip.Addr) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now()
	kind := denial{tokenID, projectID, code, client}
	if _, known := r.denied[kind]; !known && len(r.denied) >= maxDenied {
		r.others++
		return
	}
	r.denied[kind]++
}

// Dropped is how many entries were lost because they came faster than they could
// be recorded, or could not be recorded at all.
func (r *Recorder) Dropped() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// now needs r.mu. It ends the minute that is over.
func (r *Recorder) now() time.Time {
	now := r.cfg.Now().UTC()
	if minute := now.Truncate(time.Minute); !minute.Equal(r.minute) {
		r.endMinute()
		r.minute = minute
	}
	return now
}

// endMinute needs r.mu. It makes entries of what was counted.
func (r *Recorder) endMinute() {
	if r.further > 0 {
		r.push(Entry{Time: r.minute, Actor: ActorAnonymous, Action: ManagementLogin, Outcome: OutcomeDenied, Reason: reasonFurther, Occurrences: r.further})
	}
	for kind, n := range r.denied {
		e := Entry{Time: r.minute, Actor: ActorToken, Action: ProxyDenied, Outcome: OutcomeDenied, TargetType: TargetToken,
			TargetID: kind.token, ProjectID: kind.project, Reason: kind.code, Occurrences: n}
		if kind.client.IsValid() {
			e.ClientIP = kind.client.String()
		}
		r.push(e)
	}
	if r.others > 0 {
		r.push(Entry{Time: r.minute, Actor: ActorToken, Action: ProxyDenied, Outcome: OutcomeDenied, Reason: reasonFurther, Occurrences: r.others})
	}
	clear(r.logins)
	clear(r.denied)
	r.admitted, r.further, r.others = 0, 0, 0
}

// push needs r.mu.
func (r *Recorder) push(e Entry) {
	if len(r.queue) >= maxQueue {
		r.dropped += max(e.Occurrences, 1)
		return
	}
	r.queue = append(r.queue, e)
}

// Flush records what waits. Counts of the running minute go on counting.
func (r *Recorder) Flush(ctx context.Context) {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	for {
		batch := r.head()
		if len(batch) == 0 {
			break
		}
		err := r.cfg.Record(ctx, batch)
		if err != nil && (r.cfg.Passing(err) || ctx.Err() != nil) {
			if !r.failing {
				r.cfg.Logger.Error("refusals cannot be recorded in the audit; they are kept for a while", "error", err)
			}
			r.failing = true
			break
		}
		r.drop(len(batch), err)
		r.failing = false
	}
	r.mu.Lock()
	lost := r.dropped - r.reported
	r.reported = r.dropped
	r.mu.Unlock()
	if lost > 0 {
		r.cfg.Logger.Error("refusals are missing in the audit: there were too many", "lost", lost)
	}
}

// head is the batch to record next; it stays in the queue until that is done.
func (r *Recorder) head() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now()
	return r.queue[:min(len(r.queue), maxBatch):min(len(r.queue), maxBatch)]
}

// drop takes the first n entries out of the queue. With an error they are lost.
func (r *Recorder) drop(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.cfg.Logger.Error("refusals are missing in the audit: they could not be recorded", "lost", n, "error", err)
		r.dropped += int64(n)
		r.reported += int64(n)
	}
	if r.queue = r.queue[n:]; len(r.queue) == 0 {
		r.queue = nil // lets go of the entries
	}
}
