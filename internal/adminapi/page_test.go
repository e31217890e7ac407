package adminapi_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// next is the target of the answer's Link header, or "".
func next(t *testing.T, res response) string {
	t.Helper()
	link := res.header.Get("Link")
	if link == "" {
		return ""
	}
	target, found := strings.CutSuffix(link, `>; rel="next"`)
	if !found || !strings.HasPrefix(target, "</manage/") {
		t.Fatalf("Link: %s", link)
	}
	return target[1:]
}

func TestPagination(t *testing.T) {
	h := newHarness(t)
	p, other := id(h.project(`{"name":"A"}`)), id(h.project(`{"name":"B"}`))
	var want []string
	for i := range 25 {
		want = append([]string{id(h.token(fmt.Sprintf(`{"project_id":"%s","name":"t & %d"}`, p, i)))}, want...)
		h.token(`{"project_id":"` + other + `","name":"t & else"}`)
	}
	var got []string
	target, pages := "/manage/tokens?project_id="+p+"&q=T+%26&active=true&limit=10&count=true", 0
	for target != "" {
		res := h.call("GET", target, "")
		for _, row := range decode[[]object](t, res) {
			got = append(got, id(row))
		}
		if pages == 0 { // what comes between two pages moves nothing
			h.token(`{"project_id":"` + p + `","name":"t & late"}`)
		}
		if total := res.header.Get("X-Total-Count"); total != fmt.Sprint(25+min(pages, 1)) {
			t.Errorf("page %d: total %s", pages, total)
		}
		pages++
		target = next(t, res)
		if target != "" {
			u, err := url.Parse(target)
			if err != nil || u.Query().Get("q") != "T &" || u.Query().Get("project_id") != p || u.Query().Get("limit") != "10" || len(u.Query()["cursor"]) != 1 {
				t.Fatalf("next page %s: %v", target, err)
			}
		}
	}
	if pages != 3 || strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%d pages\n got %v\nwant %v", pages, got, want)
	}
	if res := h.call("GET", "/manage/tokens?limit=26&projectId="+p, ""); next(t, res) != "" || res.header.Get("X-Total-Count") != "" {
		t.Errorf("a full last page has Link %q, total %q", next(t, res), res.header.Get("X-Total-Count"))
	}
	if res := h.call("GET", "/manage/projects?limit=1", ""); next(t, res) == "" || len(decode[[]object](t, res)) != 1 {
		t.Errorf("projects are not paged: %s", res.body)
	}
}

func TestPageRefusals(t *testing.T) {
	h := newHarness(t)
	for _, list := range []string{"/manage/tokens", "/manage/projects"} {
		for _, limit := range []string{"0", "-1", "1001", "1000000000", "x", "", "1.5", "+5", "05", "99999999999999999999"} {
			h.refused("invalid_request", "limit: expected a whole number from 1 to 1000", "GET", list+"?limit="+url.QueryEscape(limit), "")
		}
		for _, raw := range []string{"", "x", "short", strings.Repeat("\x00", 24), strings.Repeat("\xff", 24), strings.Repeat("\x01", 23), strings.Repeat("\x01", 25)} {
			h.refused("invalid_request", "cursor", "GET", list+"?cursor="+base64.RawURLEncoding.EncodeToString([]byte(raw)), "")
		}
		h.refused("invalid_request", "cursor", "GET", list+"?cursor=%25%25", "")
		h.refused("invalid_request", "count: expected true or false", "GET", list+"?count=yes", "")
		h.refused("invalid_request", "page: unknown query parameter", "GET", list+"?page=1", "")
		h.refused("invalid_request", "sort: unknown query parameter", "GET", list+"?sort=name", "")
		must[[]object](h, 200, "GET", list+"?limit=1000&count=false", "")
	}
}
