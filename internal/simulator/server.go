package simulator

import (
	"net/http"
	"sync/atomic"
)

// Server is the simulated provider. Make one with [New]; it is safe for
// concurrent use and holds no resources that need closing.
//
// Model names that start with "sim-" order faults, in every dialect:
//
//	sim-error-<status>     error answer with that status (400 to 599)
//	sim-slow               first byte after 2s
//	sim-slow-<duration>    first byte after the duration
//	sim-pace-<duration>    delay between chunks
//	sim-chunks-<n>         answer of n words, n chunks when streamed
//	sim-big-<bytes>        answer text of that many bytes, whatever the token limit
//	sim-silent-<duration>  pause after half of the answer
//	sim-hang               no answer until the client goes
//	sim-abort              connection aborted after half of the answer
//	sim-abort-headers      connection aborted before the headers
//	sim-error-midstream    error event after half of the chunks
//	sim-truncate           stream ends early but cleanly, without usage
//	sim-nousage            no usage at all
//	sim-cached             half of the prompt reported as read from cache
//	sim-reason             reasoning tokens reported, like any name with "reason"
//	sim-redirect           302 to /sim/elsewhere
//	sim-cookie             sets a cookie
//	sim-crlf               stream with CRLF line ends and comment lines
//	sim-trailer            sends an HTTP trailer
//	sim-echo               the text describes the request received
//
// Orders may be joined: "sim-chunks-200+pace-5ms". An unknown order is an
// unknown model, 404.
type Server struct {
	opt      Options
	mux      *http.ServeMux
	stats    stats
	recorder recorder
	files    shelf
	onReq    atomic.Pointer[func(*http.Request)]
	sequence atomic.Uint64
}

// New returns a simulator; the zero Options are usable.
func New(opt Options) *Server {
	s := &Server{opt: opt.withDefaults(), mux: http.NewServeMux()}
	s.recorder.limit, s.recorder.now = s.opt.Record, s.opt.Now
	s.routes()
	return s
}

// OnRequest sets a function that is called with each request before it is
// answered, for looking at what a provider sees. It must not read the body. It
// runs on the request's goroutine, so it may also delay the answer. Nil removes it.
func (s *Server) OnRequest(f func(*http.Request)) {
	s.onReq.Store(&f)
}

// ServeHTTP answers one request. It panics with [http.ErrAbortHandler], as
// net/http documents, to cut a connection.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.recorder.record(r)
	if f := s.onReq.Load(); f != nil && *f != nil {
		(*f)(r)
	}
	s.mux.ServeHTTP(w, r)
}

// Interface guard.
var _ http.Handler = (*Server)(nil)
