package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// cutWithin is far more than the second that a cut may take.
const cutWithin = 8 * time.Second

// cuts are the changes that end a stream, and how the next request is refused.
var cuts = map[string]struct {
	status int
	code   string
	apply  func(t *testing.T, a *account)
}{
	"revoked": {401, "token_inactive", func(t *testing.T, a *account) { a.revoke(t) }},
	"made inactive": {401, "token_inactive", func(t *testing.T, a *account) {
		a.p.manage(t, "PATCH", "tokens/"+a.tokenID, object{"is_active": false})
	}},
	"all revoked":       {401, "token_inactive", func(t *testing.T, a *account) { a.p.manage(t, "POST", "projects/"+a.projectID+"/tokens/revoke", nil) }},
	"rotated":           {401, "token_inactive", func(t *testing.T, a *account) { a.p.manage(t, "POST", "tokens/"+a.tokenID+"/rotate", object{}) }},
	"project inactive":  {403, "project_inactive", func(t *testing.T, a *account) { a.patchProject(t, object{"is_active": false}) }},
	"expiry":            {401, "token_expired", func(*testing.T, *account) {}},
	"project and token": {401, "token_inactive", func(t *testing.T, a *account) { a.patchProject(t, object{"is_active": false, "revoke_tokens": true}) }},
}

// cutAccount is an account for a cut; where time does it, it lives briefly.
func cutAccount(t *testing.T, p *proxy, name string) *account {
	t.Helper()
	if name == "expiry" {
		return p.account(t, object{"expires_at": time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)})
	}
	return p.account(t)
}

// TestStreamIsCut takes a token away while its stream runs.
func TestStreamIsCut(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	i := 0
	for name, cut := range cuts {
		for _, d := range allDialects {
			proto := allProtocols[i%len(allProtocols)]
			i++
			t.Run(fmt.Sprintf("%s/%s/%s", name, d, proto), func(t *testing.T) {
				t.Parallel()
				a, bystander := cutAccount(t, p, name), p.account(t)
				r := d.ask(string(d), a.token, "sim-chunks-50+silent-1h", true)
				r.proto = proto
				stream := p.open(t, bounded(t), r)
				if _, err := io.ReadFull(stream.Body, make([]byte, 64)); err != nil {
					t.Fatal(err)
				}
				release := sim.hold(t, bystander.key)
				other := p.open(t, bounded(t), d.ask(string(d), bystander.token, "sim-chunks-5", true))
				rest := make(chan answer, 1)
				go func() {
					body, err := io.ReadAll(stream.Body)
					rest <- answer{body: string(body), err: err}
				}()
				cut.apply(t, a)
				began := time.Now()
				end := receive(t, "the end of the stream", rest)
				if end.err == nil {
					t.Error("the stream seems complete")
				}
				if took := time.Since(began); took > cutWithin {
					t.Errorf("cut after %s", took)
				}
				problem, err := d.read(lastEvent(end.body))
				// Revoking and deactivating at once may be seen in either order.
				if err != nil || problem.code != cut.code && (name != "project and token" || problem.code != "project_inactive") {
					t.Errorf("last event %q: %v", lastEvent(end.body), err)
				}
				next := p.do(t, d.ask(string(d), a.token, "m", false))
				if name == "project and token" && next.status == http.StatusForbidden {
					d.refused(t, next, http.StatusForbidden, "project_inactive")
				} else {
					d.refused(t, next, cut.status, cut.code)
				}
				release()
				if rest, err := io.ReadAll(other.Body); err != nil || strings.Contains(string(rest), cut.code) {
					t.Errorf("another token's stream: %v", err)
				}
			})
		}
	}
}

// TestCutBeforeTheAnswer takes a token away while the provider still thinks.
func TestCutBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := cutAccount(t, p, name)
			answers := make(chan answer, 1)
			go func() { answers <- p.do(t, chat(a.token, "sim-hang", true)) }()
			eventually(t, "the provider is asked", func() bool { return len(sim.sightings(a.key)) == 1 })
			cut.apply(t, a)
			got := receive(t, "the answer", answers)
			if name == "project and token" && got.status == http.StatusForbidden {
				openAIDialect.refused(t, got, http.StatusForbidden, "project_inactive")
				return
			}
			openAIDialect.refused(t, got, cut.status, cut.code)
		})
	}
}

// TestSlowReaderIsCut takes a token away while its client does not read.
func TestSlowReaderIsCut(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			a := cutAccount(t, p, name)
			before := sim.Stats()
			c := p.dial(t)
			body := chatBody("sim-big-67108864+chunks-2000", true)
			if _, err := io.WriteString(c, strings.ReplaceAll(postHead("", a.token, jsonType, body, 0), "\n", "\r\n")+"\r\n"+body); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the stream runs", func() bool { return sim.Stats().Streams == before.Streams+1 })
			cut.apply(t, a)
			began := time.Now()
			eventually(t, "the provider's stream is over", func() bool { return sim.Stats().OpenStreams == 0 })
			if took := time.Since(began); name != "expiry" && took > cutWithin {
				t.Errorf("cut after %s", took)
			}
			rest, err := io.ReadAll(c)
			if err == nil && strings.Contains(string(rest), "[DONE]") {
				t.Error("the stream seems complete")
			}
		})
	}
}
