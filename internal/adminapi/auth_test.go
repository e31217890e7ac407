package adminapi_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// untouchable is a body that must not be read.
type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) {
	u.t.Error("a body was read before the management token was checked")
	return 0, io.EOF
}

func (u untouchable) Close() error { return nil }

func TestAuthorization(t *testing.T) {
	h := newHarness(t)
	client, _, err := token.Mint(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	born := h.token(`{"project_id":"` + id(h.project(`{"name":"A"}`)) + `"}`)
	strangers := map[string][]string{
		"none":            nil,
		"wrong":           {"Bearer wrong"},
		"empty":           {"Bearer "},
		"no scheme":       {managementToken},
		"other scheme":    {"Basic " + managementToken},
		"prefix":          {"Bearer " + managementToken[:len(managementToken)-1]},
		"longer":          {"Bearer " + managementToken + "x"},
		"trailing space":  {"Bearer " + managementToken + " "},
		"client token":    {"Bearer " + client},
		"working token":   {"Bearer " + born["token"].(string)},
		"two, same":       {"Bearer " + managementToken, "Bearer " + managementToken},
		"two, one wrong":  {"Bearer wrong", "Bearer " + managementToken},
		"two, one line":   {"Bearer " + managementToken + ", Bearer " + managementToken},
		"upper-case text": {"Bearer " + strings.ToUpper(managementToken)},
	}
	paths := map[string]string{"GET ?": "/manage", "POST ?": "/manage/no/such/path", "DELETE ?": "/manage/projects"}
	for _, rt := range h.api.Routes() {
		if !rt.Public {
			path := strings.NewReplacer("{id}", id(born), "{kid}", id(born)).Replace(rt.Pattern)
			paths[rt.Method+" "+rt.Pattern] = path
		}
	}
	before := len(h.audits())
	for name, path := range paths {
		method, _, _ := strings.Cut(name, " ")
		for who, values := range strangers {
			res := h.call(method, path, "", header("Authorization", values...), func(r *http.Request) {
				r.Body, r.ContentLength = untouchable{t}, -1
			})
			if res.status != http.StatusUnauthorized || res.header.Get("WWW-Authenticate") != "Bearer" ||
				decode[object](t, res)["code"] != "unauthorized" {
				t.Errorf("%s, %s: %d %s", name, who, res.status, res.body)
			}
		}
	}
	if after := len(h.audits()); after != before {
		t.Errorf("strangers made %d audit entries", after-before)
	}
	for _, value := range []string{"Bearer ", "bearer ", "BEARER   "} {
		if res := h.call("GET", "/manage/providers", "", header("Authorization", value+managementToken)); res.status != 200 {
			t.Errorf("%q: %d", value, res.status)
		}
	}
	if res := h.call("GET", "/health", "", header("Authorization")); res.status != 200 {
		t.Errorf("/health needs a token: %d", res.status)
	}
}

func TestUnusableManagementToken(t *testing.T) {
	for _, configured := range []string{"", token.Prefix + "looks-like-a-client"} {
		h := newHarness(t, func(cfg *adminapi.Config) { cfg.ManagementToken = secret.NewValue(configured) })
		for _, sent := range []string{"Bearer " + configured, "Bearer", "Bearer  ", ""} {
			h.refused("unauthorized", "management token", "GET", "/manage/providers", "", header("Authorization", sent))
		}
		if !strings.Contains(h.log.String(), "management_token") {
			t.Error("the log does not say why")
		}
	}
}
