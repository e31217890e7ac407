package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"testing"
)

// object is a JSON object.
type object = map[string]any

// manage calls the management API and decodes a 2xx answer.
func (p *proxy) manage(t *testing.T, method, path string, body any) object {
	t.Helper()
	status, answer := p.tryManage(t, method, path, body)
	if status/100 != 2 {
		t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	var out object
	if len(answer) > 0 {
		if err := json.Unmarshal([]byte(answer), &out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, answer)
		}
	}
	return out
}

func (p *proxy) tryManage(t *testing.T, method, path string, body any) (int, string) {
	t.Helper()
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(bounded(t), method, p.url+"/manage/"+path, in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+managementToken)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client(h2).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// account is a project with a key at each provider, and a token.
type account struct {
	p         *proxy
	projectID string
	tokenID   string
	token     string
	key       string // at every provider
}

// account makes a project with a provider key of its own and a token; policy
// holds further members of the token.
func (p *proxy) account(t *testing.T, policy ...object) *account {
	t.Helper()
	a := &account{p: p, key: "sk-provider-" + rand.Text()}
	project := p.manage(t, "POST", "projects", object{"name": "project " + rand.Text(), "api_key": a.key})
	a.projectID = project["id"].(string)
	for _, name := range []string{"anthropic", "gemini"} {
		p.manage(t, "POST", "projects/"+a.projectID+"/keys", object{"provider": name, "api_key": a.key})
	}
	a.tokenID, a.token = a.mint(t, policy...)
	return a
}

// mint makes another token of the project.
func (a *account) mint(t *testing.T, policy ...object) (id, token string) {
	t.Helper()
	body := object{"project_id": a.projectID}
	for _, members := range policy {
		for name, value := range members {
			body[name] = value
		}
	}
	made := a.p.manage(t, "POST", "tokens", body)
	return made["id"].(string), made["token"].(string)
}

func (a *account) revoke(t *testing.T) {
	t.Helper()
	a.p.manage(t, "DELETE", "tokens/"+a.tokenID, nil)
}

func (a *account) patchProject(t *testing.T, members object) {
	t.Helper()
	a.p.manage(t, "PATCH", "projects/"+a.projectID, members)
}
