package simulator

import (
	"maps"
	"sync"
)

// Stats is what the simulator has done since it was made. It is the provider's
// side of the ledger: a gateway's own books should agree with its token totals.
type Stats struct {
	// Requests counts all API requests, refused ones included.
	Requests int64 `json:"requests"`
	// Streams counts the streams begun; OpenStreams are running now.
	Streams     int64 `json:"streams"`
	OpenStreams int64 `json:"open_streams"`
	// CancelledStreams counts streams whose client went before the end.
	CancelledStreams int64 `json:"cancelled_streams"`
	// CancelledRequests counts requests whose client went before the answer
	// began, as happens with sim-slow and sim-hang.
	CancelledRequests int64 `json:"cancelled_requests"`
	// PromptTokens and CompletionTokens total the tokens of all model calls,
	// those of unfinished streams up to where they were cut.
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	// UploadBytes counts the bytes of files received in multipart forms.
	UploadBytes int64 `json:"upload_bytes"`
	// WebSocketSessions counts realtime sessions opened.
	WebSocketSessions int64 `json:"websocket_sessions"`
	// Redirected counts requests that followed the redirect of sim-redirect.
	Redirected int64 `json:"redirected"`
	// Endpoints counts requests by method and route, "other" for unknown ones.
	Endpoints map[string]int64 `json:"endpoints"`
}

// stats guards a Stats. A mutex is enough: it is taken a few times per chunk,
// for nanoseconds.
type stats struct {
	mu sync.Mutex
	Stats
}

func (s *stats) update(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.Stats)
}

func (s *stats) received(endpoint string) {
	s.update(func(s *Stats) {
		if s.Endpoints == nil {
			s.Endpoints = make(map[string]int64)
		}
		s.Requests++
		s.Endpoints[endpoint]++
	})
}

func (s *stats) tokens(prompt, completion int) {
	s.update(func(s *Stats) {
		s.PromptTokens += int64(prompt)
		s.CompletionTokens += int64(completion)
	})
}

// Stats returns a snapshot.
func (s *Server) Stats() Stats {
	var snapshot Stats
	s.stats.update(func(s *Stats) {
		snapshot = *s
		snapshot.Endpoints = make(map[string]int64, len(s.Endpoints))
		maps.Copy(snapshot.Endpoints, s.Endpoints)
	})
	return snapshot
}
