// Package lease keeps a resource open for as long as somebody uses it, however
// long its owner has been gone: Caddy cleans a configuration up while that
// configuration's requests are still running.
package lease

import "sync"

// Lease counts the users of a resource. When the owner has let go
// ([Lease.Doom]) and the last user has left ([Lease.Release]), the resource is
// closed, once. The zero value is not usable; see [New].
type Lease struct {
	mu     sync.Mutex
	users  int
	doomed bool
	close  func()
}

// New makes a lease that calls closeFn at the end.
func New(closeFn func()) *Lease { return &Lease{close: closeFn} }

// Acquire adds a user. It returns false when the resource is closed or about
// to be; then Release must not be called.
func (l *Lease) Acquire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doomed && l.users == 0 {
		return false
	}
	l.users++
	return true
}

// Release takes a user away, once per successful Acquire. The last one to leave
// a doomed lease closes the resource, on its own goroutine.
func (l *Lease) Release() {
	l.mu.Lock()
	l.users--
	if l.users < 0 {
		l.mu.Unlock()
		panic("lease: released more often than acquired")
	}
	last := l.doomed && l.users == 0
	l.mu.Unlock()
	if last {
		l.close()
	}
}

// Doom says that the owner has let go. It returns at once; if nobody uses the
// resource it is closed before Doom returns. Further calls do nothing.
func (l *Lease) Doom() {
	l.mu.Lock()
	first := !l.doomed
	l.doomed = true
	idle := l.users == 0
	l.mu.Unlock()
	if first && idle {
		l.close()
	}
}

// Users is the number of users right now.
func (l *Lease) Users() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.users
}
