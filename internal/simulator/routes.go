package simulator

import (
	"encoding/json"
	"net/http"
)

// routes lists every endpoint. A dialect that differs by header is decided by
// the handler.
func (s *Server) routes() {
	s.handle("POST /v1/chat/completions", openAI{}, (*call).chat)
	s.handle("POST /v1/completions", openAI{}, (*call).completions)
	s.handle("POST /v1/responses", openAI{}, (*call).responses)
	s.handle("POST /v1/embeddings", openAI{}, (*call).embeddings)
	s.handle("POST /v1/moderations", openAI{}, (*call).moderations)
	s.handle("POST /v1/images/generations", openAI{}, (*call).images)
	s.handle("POST /v1/audio/speech", openAI{}, (*call).speech)
	s.handle("POST /v1/audio/transcriptions", openAI{}, (*call).transcriptions)
	s.handle("POST /v1/files", openAI{}, (*call).uploadFile)
	s.handle("GET /v1/files", openAI{}, (*call).listFiles)
	s.handle("GET /v1/files/{id}", openAI{}, (*call).getFile)
	s.handle("POST /v1/batches", openAI{}, (*call).createBatch)
	s.handle("GET /v1/realtime", openAI{}, (*call).realtime)

	s.handle("POST /v1/messages", anthropic{}, (*call).messages)
	s.handle("POST /v1/messages/count_tokens", anthropic{}, (*call).countMessageTokens)

	s.handle("POST /v1beta/models/{call...}", gemini{}, (*call).geminiMethod)
	s.handle("POST /v1/models/{call...}", gemini{}, (*call).geminiMethod)
	s.handle("GET /v1beta/models", gemini{}, (*call).geminiModels)
	s.handle("GET /v1beta/models/{id...}", gemini{}, (*call).geminiModel)

	s.mux.HandleFunc("GET /v1/models", s.byVersion("GET /v1/models", (*call).openAIModels, (*call).anthropicModels))
	s.mux.HandleFunc("GET /v1/models/{id...}", s.byVersion("GET /v1/models/{id}", (*call).openAIModel, (*call).anthropicModel))

	s.mux.HandleFunc("/", s.endpoint("other", openAI{}, (*call).unknownURL))
	s.mux.HandleFunc("GET /sim/stats", s.serveStats)
	s.mux.HandleFunc("GET /sim/image.png", serveImage)
	s.mux.HandleFunc("/sim/elsewhere", s.serveElsewhere)
}

func (s *Server) handle(pattern string, d dialect, f func(*call)) {
	s.mux.HandleFunc(pattern, s.endpoint(pattern, d, f))
}

// endpoint counts and authenticates a request before f answers it.
func (s *Server) endpoint(name string, d dialect, f func(*call)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.stats.received(name)
		c := s.newCall(w, r, d)
		key, ok := s.authenticate(r)
		c.key = key
		if !ok {
			c.refuse(d.unauthorized(key))
			return
		}
		f(c)
	}
}

// byVersion tells Anthropic's clients from OpenAI's on the paths they share.
func (s *Server) byVersion(name string, other, versioned func(*call)) http.HandlerFunc {
	openAIHandler := s.endpoint(name, openAI{}, other)
	anthropicHandler := s.endpoint(name, anthropic{}, versioned)
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("anthropic-version") != "" {
			anthropicHandler(w, r)
			return
		}
		openAIHandler(w, r)
	}
}

func (c *call) unknownURL() {
	c.refuse(problem{
		status:  http.StatusNotFound,
		code:    "unknown_url",
		message: "Invalid URL (" + c.r.Method + " " + c.r.URL.Path + ")",
	})
}

func (s *Server) serveStats(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.Stats())
}

// serveElsewhere is where sim-redirect points. A gateway's client should never
// get here, least of all with the provider's key.
func (s *Server) serveElsewhere(w http.ResponseWriter, _ *http.Request) {
	s.stats.update(func(s *Stats) { s.Redirected++ })
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encode(object{"object", "sim.elsewhere", "followed", true}))
}
