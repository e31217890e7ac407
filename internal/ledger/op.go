package ledger

import "time"

// Row is an account in one period as the database has it.
type Row struct {
	Limit     int64
	Version   int64 // of what the limit is from
	Spent     int64
	Forfeited int64 // of leases whose holders are gone; it may have been spent
	Leased    int64
	WantedAt  int64 // when somebody was refused for the sake of leases; 0: never
	Alerted   int64 // highest of Thresholds that was told of
}

// Room is what no lease and no spending has taken, below zero after the limit was
// lowered or a provider has billed more than it should.
func (r *Row) Room() int64 { return r.Limit - r.Spent - r.Forfeited - r.Leased }

// Lease is what one process has of a row. All three amounts only grow.
type Lease struct {
	Exists    bool
	Granted   int64
	Used      int64
	Returned  int64
	ExpiresAt int64
}

// Part is what the lease has of the row's leased amount.
func (l *Lease) Part() int64 { return l.Granted - l.Used - l.Returned }

// Op brings a process's lease in the database to the state that it has in memory, and
// asks for more. It says how things are to be, not what is to change: repeating it
// when nobody knows whether it was committed does no harm.
type Op struct {
	Key
	Limit   int64
	Version int64

	// Fresh says that the process knows of no lease, so that one that there is
	// belongs to an operation whose outcome it never learned.
	Fresh bool
	Used  int64   // by the lease's holder; not looked at if Fresh
	Part  int64   // what the lease is to keep: held by requests, or free
	Free  int64   // of it
	Needs []int64 // of requests that wait, the first ones first
	// Refill asks for more than is needed, for requests to come.
	Refill bool
}

// Result is what came of an Op.
type Result struct {
	Row  Row
	Part int64 // of the lease, with what was granted
	Used int64
	// Gone says that there is no lease any more. What it had is counted as spent or
	// forfeited; nothing was granted.
	Gone    bool
	Granted int64 // within the limit
	Chunk   int64 // of it, beyond what requests need
	Refused int64 // the smallest need that does not fit; 0: none
	Wanted  bool  // others were asked to return what they do not need
	Alert   int64 // the threshold that was crossed; 0: none
}

// Thresholds are the percentages of a limit of which somebody is told, see [Row.reached].
var Thresholds = [...]int64{50, 80, 100}

// wantedFor is how long nobody leases more than needed after somebody was refused.
const wantedFor = 2 * time.Second

// Decide carries the operation out on a row that is locked. others is how many other
// processes have leases that have not ended. The database repeats the one condition
// that counts: what is granted leaves the row within its limit.
func (op *Op) Decide(row *Row, lease *Lease, others int, now int64, ttl time.Duration) Result {
	if op.Version > row.Version {
		if op.Limit > row.Limit { // of which other parts are used
			row.Alerted = 0
		}
		row.Limit, row.Version = op.Limit, op.Version
	}
	used := op.Used
	if op.Fresh {
		used = lease.Used
	}
	if !op.Fresh && (!lease.Exists || used < lease.Used) {
		if lease.Exists { // an older state of the database was restored beneath us
			rest := max(lease.Part(), 0)
			lease.Returned += rest
			row.Leased -= rest
			row.Forfeited += rest
		}
		return Result{Row: *row, Gone: true}
	}
	spent := used - lease.Used
	change := op.Part - (lease.Part() - spent)
	if change > 0 { // a provider has billed more than was held
		lease.Granted += change
	} else {
		lease.Returned -= change
	}
	lease.Exists, lease.Used = true, used
	row.Spent += spent
	row.Leased += change - spent

	r := Result{Used: used}
	r.Granted, r.Chunk, r.Refused = op.size(row, others, now)
	lease.Granted += r.Granted
	row.Leased += r.Granted
	lease.ExpiresAt = now + ttl.Microseconds()
	r.Part = lease.Part()
	if r.Refused > 0 && row.Leased > r.Part {
		row.WantedAt, r.Wanted = now, true
	}
	for _, percent := range Thresholds {
		if row.Limit > 0 && percent > row.Alerted && row.reached(percent, r.Refused) {
			row.Alerted, r.Alert = percent, percent
		}
	}
	r.Row = *row
	return r
}

// reached reports whether so many percent of the limit are used. All of it is, too, once
// what is left was not enough for a request: what is held for requests is more than they
// cost in the end, so that a budget never comes to its last cent. One that the whole limit
// would not have been enough for, or while half of it is unused, tells nothing of that.
func (r *Row) reached(percent, refused int64) bool {
	used := r.Spent + r.Forfeited
	if percent == 100 && refused > r.Limit-used && refused <= r.Limit && used >= portion(r.Limit, Thresholds[0]) {
		return true
	}
	return used >= portion(r.Limit, percent)
}

// portion is so many percent of a limit, rounded up.
func portion(limit, percent int64) int64 {
	return limit/100*percent + (limit%100*percent+99)/100
}

// size is how much to grant: what those who wait lack, as far as it fits, and then a
// chunk that shrinks near the limit.
func (op *Op) size(row *Row, others int, now int64) (grant, chunk, refused int64) {
	room := max(row.Room(), 0)
	var taken int64
	for _, need := range op.Needs {
		if need <= op.Free+room-taken {
			taken += need
		} else if refused == 0 || need < refused {
			refused = need
		}
	}
	grant = max(0, taken-op.Free)
	if refused == 0 && (op.Refill || len(op.Needs) > 0) && now-row.WantedAt >= wantedFor.Microseconds() {
		chunk = min(row.Limit/100, (room-grant)/int64(2*(others+1)))
	}
	return grant + chunk, chunk, refused
}

// Reap ends a lease whose holder is gone. Its rest may have been spent: what is proven
// to have been is, the remainder is forfeited.
func (l *Lease) Reap(row *Row, proven int64) (forfeited int64) {
	rest := max(l.Part(), 0)
	proven = min(max(proven, 0), rest)
	row.Leased -= rest
	row.Spent += proven
	row.Forfeited += rest - proven
	return rest - proven
}
