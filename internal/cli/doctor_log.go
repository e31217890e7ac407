package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// logSnippet is what the example configuration calls its redacting log.
const logSnippet = "import llm_proxy_log (a snippet, see Caddyfile.example)"

// accessLog is the logger of all access logs; names of their own come after it.
const accessLog = "http.log.access"

// credentialHeaders are those that LLM clients send keys in and that Caddy does
// not redact by itself.
var credentialHeaders = []string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Sec-Websocket-Protocol"}

// serverLogs is the part of a server that says what it logs.
type serverLogs struct {
	DefaultLoggerName    string                     `json:"default_logger_name"`
	LoggerNames          map[string]json.RawMessage `json:"logger_names"`
	SkipUnmappedHosts    bool                       `json:"skip_unmapped_hosts"`
	ShouldLogCredentials bool                       `json:"should_log_credentials"`
}

// logSink is one log of the configuration.
type logSink struct {
	Writer  struct{ Output string } `json:"writer"`
	Encoder encoder                 `json:"encoder"`
	Include []string                `json:"include"`
	Exclude []string                `json:"exclude"`
}

type encoder struct {
	Format string            `json:"format"`
	Fields map[string]filter `json:"fields"`
	Wrap   *encoder          `json:"wrap"`
}

type filter struct {
	Filter     string `json:"filter"`
	Regexp     string `json:"regexp"`
	Operations []struct{ Regexp string }
	Actions    []struct{ Type, Parameter string }
}

// checkAccessLogs judges the access log of every server with an llm_proxy handler.
func checkAccessLogs(config []byte) []Check {
	var c struct {
		Logging struct{ Logs map[string]logSink }
		Apps    struct {
			HTTP struct {
				Servers map[string]struct {
					Logs   *serverLogs     `json:"logs"`
					Routes json.RawMessage `json:"routes"`
					Named  json.RawMessage `json:"named_routes"`
					Errors json.RawMessage `json:"errors"`
				}
			}
		}
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil // the check of the configuration has said so
	}
	logs := c.Logging.Logs
	if _, set := logs["default"]; !set { // Caddy adds it
		logs = maps.Clone(logs)
		if logs == nil {
			logs = make(map[string]logSink)
		}
		logs["default"] = logSink{}
	}
	var checks []Check
	for _, name := range slices.Sorted(maps.Keys(c.Apps.HTTP.Servers)) {
		server := c.Apps.HTTP.Servers[name]
		var found routeFacts
		found.read(server.Routes, server.Named, server.Errors)
		if found.handlers == 0 {
			continue
		}
		checks = append(checks, checkServerLog("access-log:"+name, server.Logs, found.loggers, logs)...)
	}
	return checks
}

func checkServerLog(name string, server *serverLogs, routed []string, logs map[string]logSink) []Check {
	if server == nil {
		return []Check{{OK, name, "no access log"}}
	}
	var checks []Check
	if server.ShouldLogCredentials {
		checks = append(checks, Check{Warn, name, "log_credentials is on: Authorization and Cookie are logged as they are; take it out"})
	}
	loggers := append(server.names(), routed...)
	for _, sink := range slices.Sorted(maps.Keys(logs)) {
		l := logs[sink]
		if l.Writer.Output == "discard" || !slices.ContainsFunc(loggers, l.accepts) {
			continue
		}
		if missing := l.Encoder.missing(); len(missing) > 0 {
			where := "in its site"
			if sink == "default" { // also takes requests for hosts that no site has
				where = "in the global options"
			}
			checks = append(checks, Check{Warn, name, fmt.Sprintf("log %s keeps credentials of clients (%s): %s %s", sink, strings.Join(missing, ", "), logSnippet, where)})
		}
	}
	if len(checks) == 0 {
		checks = append(checks, Check{OK, name, "credentials are redacted"})
	}
	return checks
}

// names are the loggers that a server's requests are logged with.
func (s *serverLogs) names() []string {
	var names []string
	if len(s.LoggerNames) == 0 || !s.SkipUnmappedHosts {
		names = append(names, loggerName(s.DefaultLoggerName))
	}
	for _, raw := range s.LoggerNames {
		var one string
		var many []string
		if json.Unmarshal(raw, &one) == nil {
			many = []string{one}
		} else if json.Unmarshal(raw, &many) != nil {
			continue
		}
		for _, n := range many {
			names = append(names, loggerName(n))
		}
	}
	return names
}

func loggerName(name string) string {
	if name == "" {
		return accessLog
	}
	return accessLog + "." + name
}

// accepts reports whether a log takes what a logger says: the longest of its
// rules that covers the name decides.
func (l *logSink) accepts(logger string) bool {
	longest := func(rules []string) int {
		n := -1
		for _, rule := range rules {
			if strings.HasPrefix(logger+".", rule+".") {
				n = max(n, len(rule))
			}
		}
		return n
	}
	in, out := longest(l.Include), longest(l.Exclude)
	if len(l.Include) > 0 && in < 0 {
		return false
	}
	return out < 0 || in > out
}

// missing lists what an encoder leaves in that it should not.
func (e *encoder) missing() []string {
	removed := func(field string) bool {
		for at := e; at != nil; at = at.Wrap {
			for name, f := range at.Fields {
				if at.Format == "filter" && (name == field || strings.HasPrefix(field, name+">")) && f.removes() {
					return true
				}
			}
		}
		return false
	}
	var missing []string
	for _, header := range credentialHeaders {
		if !removed("request>headers>" + header) {
			missing = append(missing, header)
		}
	}
	key := removed("request>uri")
	for at := e; at != nil; at = at.Wrap {
		key = key || at.Format == "filter" && at.Fields["request>uri"].removesKey()
	}
	if !key {
		missing = append(missing, "?key=")
	}
	return missing
}

// removes reports whether nothing of a value is left that could be used.
func (f filter) removes() bool {
	return f.Filter == "delete" || f.Filter == "replace" || f.Filter == "hash"
}

// removesKey reports whether the query parameter key is taken out of a URI.
func (f filter) removesKey() bool {
	switch f.Filter {
	case "query":
		for _, a := range f.Actions {
			if a.Parameter == "key" && (a.Type == "delete" || a.Type == "replace" || a.Type == "hash") {
				return true
			}
		}
	case "regexp":
		return strings.Contains(f.Regexp, "key")
	case "multi_regexp":
		for _, o := range f.Operations {
			if strings.Contains(o.Regexp, "key") {
				return true
			}
		}
	}
	return false
}
