package adminapi_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gofrs/uuid/v5"
	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

type usage struct {
	From     string   `json:"from"`
	To       string   `json:"to"`
	GroupBy  []string `json:"group_by"`
	Complete bool     `json:"complete"`
	Rows     []object `json:"rows"`
	Total    object   `json:"total"`
}

// brief is a row in few words: its values of the groups, requests, tokens, cost.
func brief(row object, groups ...string) string {
	var words []string
	for _, g := range groups {
		words = append(words, fmt.Sprint(row[g]))
	}
	return strings.Join(append(words, fmt.Sprintf("%vr %vi %vo $%v", row["requests"], row["input_tokens"], row["output_tokens"], row["cost_usd"])), " ")
}

func briefs(rows []object, groups ...string) string {
	var lines []string
	for _, row := range rows {
		lines = append(lines, brief(row, groups...))
	}
	return strings.Join(lines, "\n")
}

func of(project, token string) func(*event.Event) {
	return func(e *event.Event) {
		e.ProjectID, e.TokenID = uuid.Must(uuid.FromString(project)), uuid.Must(uuid.FromString(token))
	}
}

func by(user string) func(*event.Event) { return func(e *event.Event) { e.EndUser = user } }

func TestUsage(t *testing.T) {
	onBoth(t, func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness) {
		now := at(t, "2026-03-10T12:20:00Z")
		h := newHarness(func(cfg *adminapi.Config) { cfg.Now = func() time.Time { return now } })
		a, b := id(h.project(`{"name":"Search"}`)), id(h.project(`{"name":"=Chat"}`))
		ta, tb := id(h.token(`{"project_id":"`+a+`"}`)), id(h.token(`{"project_id":"`+b+`"}`))
		h.record(
			eventOf(at(t, "2026-02-08T12:59:59Z"), "old", of(a, ta)), // the day before the first
			eventOf(at(t, "2026-02-08T11:59:59Z"), "older", of(a, ta)),
			eventOf(at(t, "2026-03-08T23:30:00Z"), "gpt-4o", of(a, ta), by("anna")),
			eventOf(at(t, "2026-03-09T00:00:00Z"), "gpt-4o", of(a, ta), by("bert")),
			eventOf(at(t, "2026-03-09T00:59:59Z"), "o3", of(b, tb), by("anna"), func(e *event.Event) {
				e.Status, e.Outcome, e.CostNanoUSD, e.Estimated, e.Provider = 502, "upstream_error", event.Count{}, true, "azure"
				e.CacheWriteTokens = event.Known(3)
			}),
			eventOf(at(t, "2026-03-10T12:10:00Z"), "gpt-4o", of(b, tb), by("anna"), func(e *event.Event) {
				e.Cache, e.CostNanoUSD = "hit", event.Known(1)
			}),
		)
		get := func(query string) usage {
			t.Helper()
			return must[usage](h, 200, "GET", "/manage/usage?"+query, "")
		}

		u := get("")
		if u.From != "2026-02-08T12:00:00Z" || u.To != "2026-03-10T13:00:00Z" || !u.Complete || u.GroupBy == nil || len(u.GroupBy) != 0 {
			t.Errorf("by default: %+v", u)
		}
		want := object{"requests": 5.0, "errors": 1.0, "cache_hits": 1.0, "input_tokens": 50.0, "cached_tokens": 20.0, "cache_write_tokens": 3.0,
			"output_tokens": 25.0, "reasoning_tokens": 10.0, "cost_usd": "0.004500001", "unpriced": 1.0, "estimated": 1.0}
		if len(u.Rows) != 1 || fmt.Sprint(u.Rows[0]) != fmt.Sprint(want) || fmt.Sprint(u.Total) != fmt.Sprint(want) {
			t.Errorf("by default:\n%v\n%v, want\n%v", u.Rows, u.Total, want)
		}
		// What is recorded after a roll-up is in the next answer.
		h.record(eventOf(at(t, "2026-03-10T12:15:00Z"), "gpt-4o", of(a, ta)))
		if got := brief(get("").Total); got != "6r 60i 30o $0.006000001" {
			t.Errorf("afterwards: %s", got)
		}

		for _, test := range []struct{ query, groups, want string }{
			{"group_by=model", "model", "gpt-4o 4r 40i 20o $0.004500001\no3 1r 10i 5o $0\nold 1r 10i 5o $0.0015"},
			{"group_by=provider", "provider", "azure 1r 10i 5o $0\nopenai 5r 50i 25o $0.006000001"},
			{"group_by=end_user", "end_user", " 2r 20i 10o $0.003\nanna 3r 30i 15o $0.001500001\nbert 1r 10i 5o $0.0015"},
			{"group_by=day", "day", "2026-02-08 1r 10i 5o $0.0015\n2026-03-08 1r 10i 5o $0.0015\n2026-03-09 2r 20i 10o $0.0015\n2026-03-10 2r 20i 10o $0.001500001"},
			{"group_by=hour&from=2026-03-09", "hour", "2026-03-09T00:00:00Z 2r 20i 10o $0.0015\n2026-03-10T12:00:00Z 2r 20i 10o $0.001500001"},
			{"group_by=day,model&from=2026-03-09&to=2026-03-09", "day model", "2026-03-09 gpt-4o 1r 10i 5o $0.0015\n2026-03-09 o3 1r 10i 5o $0"},
			{"group_by=model,day&from=2026-03-09&to=2026-03-09", "model day", "gpt-4o 2026-03-09 1r 10i 5o $0.0015\no3 2026-03-09 1r 10i 5o $0"},
			{"project_id=" + b, "", "2r 20i 10o $0.000000001"},
			{"token_id=" + ta, "", "4r 40i 20o $0.006"},
			{"provider=azure&group_by=model", "model", "o3 1r 10i 5o $0"},
			{"model=gpt-4o&end_user=anna", "", "2r 20i 10o $0.001500001"},
			{"end_user=anna&group_by=model", "model", "gpt-4o 2r 20i 10o $0.001500001\no3 1r 10i 5o $0"},
			{"end_user=anna&group_by=end_user,day&from=2026-03-09", "end_user day", "anna 2026-03-09 1r 10i 5o $0\nanna 2026-03-10 1r 10i 5o $0.000000001"},
			{"end_user=nobody", "", "0r 0i 0o $0"},
			{"end_user=nobody&group_by=model", "model", ""},
			{"model=nothing", "", "0r 0i 0o $0"},
			{"model=nothing&group_by=day", "day", ""},
			{"model=gpt-4%25", "", "0r 0i 0o $0"},
			// Times are whole hours, in whichever zone they are given.
			{"from=2026-03-09T00:59:59Z&to=2026-03-09T00:59:59.5Z", "", "2r 20i 10o $0.0015"},
			{"from=2026-03-09T01:00:00Z&to=2026-03-10T12:00:00Z", "", "0r 0i 0o $0"},
			{"from=2026-03-09T01:00:00Z&to=2026-03-10T12:00:01Z", "", "2r 20i 10o $0.001500001"},
			{"from=2026-03-09T01:00:00%2B01:00&to=2026-03-09T06:00:00%2B05:30", "", "2r 20i 10o $0.0015"},
			{"from=2026-03-08T19:30:00-04:00&to=2026-03-08T20:00:00-04:00", "", "1r 10i 5o $0.0015"}, // 23:30 to 00:00
			{"from=2026-03-08&to=2026-03-08", "", "1r 10i 5o $0.0015"},
			{"to=2026-02-08", "", "2r 20i 10o $0.003"}, // from: 30 days before
		} {
			if got := briefs(get(test.query).Rows, strings.Fields(test.groups)...); got != test.want {
				t.Errorf("%s:\n%s, want\n%s", test.query, got, test.want)
			}
		}
		u = get("group_by=project,token&from=2026-03-01")
		if len(u.Rows) != 2 || !slices.ContainsFunc(u.Rows, func(r object) bool {
			return brief(r, "project_id", "project_name", "token_id") == a+" Search "+ta+" 3r 30i 15o $0.0045"
		}) {
			t.Errorf("by project and token: %v", u.Rows)
		}
		h.events.behind = true
		if u := get(""); u.Complete {
			t.Error("a backlog is called complete")
		}
	})
}

func TestUsageCSV(t *testing.T) {
	h := newHarness(t)
	p := id(h.project(`{"name":"=1+1"}`))
	tk := id(h.token(`{"project_id":"` + p + `"}`))
	when := at(t, "2026-03-09T10:30:00Z")
	h.record(
		eventOf(when, `=HYPERLINK("http://x","y")`, of(p, tk), by("'quoted")),
		eventOf(when, "plain, with \"quotes\"\nand a line\x1b", of(p, tk), by("@sum")),
	)
	const numbers = "1,0,0,10,4,0,5,2,0.0015,0,0\r\n"
	columns := "requests,errors,cache_hits,input_tokens,cached_tokens,cache_write_tokens,output_tokens,reasoning_tokens,cost_usd,unpriced,estimated\r\n"
	res := h.call("GET", "/manage/usage?from=2026-03-09&to=2026-03-09&group_by=day,project,token,model,end_user,provider", "", header("Accept", "text/csv"))
	want := "day,project_id,project_name,token_id,model,end_user,provider," + columns +
		"2026-03-09," + p + ",'=1+1," + tk + `,"'=HYPERLINK(""http://x"",""y"")",''quoted,openai,` + numbers +
		"2026-03-09," + p + ",'=1+1," + tk + ",\"plain, with \"\"quotes\"\" and a line \",'@sum,openai," + numbers
	if res.status != 200 || string(res.body) != want {
		t.Errorf("%d\n%s\nwant\n%s", res.status, res.body, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/csv; charset=utf-8; header=present", "Content-Disposition": `attachment; filename="usage.csv"`,
		"Vary": "Accept", "Content-Length": fmt.Sprint(len(want)),
	} {
		if got := res.header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	res = h.call("GET", "/manage/usage?from=2026-03-09&to=2026-03-09&group_by=hour", "", header("Accept", "text/csv"))
	if want := "hour," + columns + "2026-03-09T10:00:00Z,2,0,0,20,8,0,10,4,0.003,0,0\r\n"; string(res.body) != want {
		t.Errorf("%s\nwant\n%s", res.body, want)
	}
	res = h.call("GET", "/manage/usage?from=2020-01-01&to=2020-01-01&group_by=hour", "", header("Accept", "text/csv"))
	if want := "hour," + columns; string(res.body) != want {
		t.Errorf("%s\nwant\n%s", res.body, want)
	}
	// A refusal is JSON for everybody.
	h.refused("invalid_request", "group_by", "GET", "/manage/usage?group_by=x", "", header("Accept", "text/csv"))
}

func TestAccept(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "text/*": false, "application/json": false, "text/csv": true, "TEXT/CSV": true, "text/csv; charset=utf-8; header=present": true,
		"text/csv, */*;q=0.1": true, "text/csv;q=0": false, "text/csv;q=0.5, application/json": false, "application/json;q=0.5, text/csv;q=0.6": true,
		"text/csv;q=x": false, "text/html, text/csv": true, ";;, text/csv": true, "text/csvx": false,
	} {
		if got := adminapi.WantsCSV([]string{accept}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
	if !adminapi.WantsCSV([]string{"application/json;q=0.1", "text/csv"}) {
		t.Error("two headers are not one list")
	}
}

func TestUsageRefusals(t *testing.T) {
	h := newHarness(t)
	for query, words := range map[string]string{
		"from=yesterday":                "from: expected a time with zone",
		"from=":                         "from: expected a time with zone",
		"to=2026-02-30":                 "to: expected a time with zone",
		"to=2026-01-01T00:00:00":        "to: expected a time with zone",
		"to=2026-01-01T00:00:00+01:00":  "+ is written %2B",
		"from=9999-12-31":               "from: expected",
		"from=0000-01-01":               "from: expected",
		"from=0001-01-01T00:00:00Z":     "from: expected",
		"from=2026-01-02&to=2026-01-01": "to: is not after from",
		"from=2999-01-01":               "to: is not after from",
		"from=2026-01-01T01:00:00Z&to=2026-01-01T01:00:00Z": "to: is not after from",
		"group_by=":                          "group_by: expected some of project,token,",
		"group_by=cost":                      "group_by: expected some of",
		"group_by=model,model":               "group_by: expected some of",
		"group_by=model,":                    "group_by: expected some of",
		"group_by=day,hour":                  "group_by: expected one of hour and day",
		"group_by=model&group_by=day":        "group_by: given more than once",
		"project_id=7":                       "project_id: expected an id",
		"token_id=" + uuid.Nil.String():      "token_id: expected an id",
		"provider=":                          "provider: is empty",
		"model=" + strings.Repeat("x", 1025): "model: has 1025 bytes",
		"end_user=%00":                       "end_user: write it in UTF-8",
		"limit=1":                            "limit: unknown query parameter; known are from",
	} {
		h.refused("invalid_request", words, "GET", "/manage/usage?"+query, "")
	}
	var events []*event.Event
	for i := range 4 {
		events = append(events, eventOf(time.Now(), fmt.Sprint("m", i)))
	}
	h.record(events...)
	// What has no project has the zero id, not none.
	if u := must[usage](h, 200, "GET", "/manage/usage?group_by=project,token", ""); brief(u.Rows[0], "project_id", "project_name", "token_id") != uuid.Nil.String()+"  "+uuid.Nil.String()+" 4r 40i 20o $0.006" {
		t.Errorf("without a project: %v", u.Rows)
	}
	defer adminapi.SetMaxUsageRows(3)()
	h.refused("invalid_request", "group_by: gives 4 rows, at most 3 are answered", "GET", "/manage/usage?group_by=model", "")
	if u := must[usage](h, 200, "GET", "/manage/usage?group_by=model&model=m1", ""); len(u.Rows) != 1 {
		t.Errorf("rows: %v", u.Rows)
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	h.refused("internal", "", "GET", "/manage/usage", "")
}

// TestUsageAddsUp groups and filters random requests: rows always add up to what
// the requests themselves do.
func TestUsageAddsUp(t *testing.T) {
	h := newHarness(t)
	start := at(t, "2026-03-09T00:00:00Z")
	days := 0
	rapid.Check(t, func(t *rapid.T) {
		day := start.AddDate(0, 0, days)
		days++
		pick := func(name string) string { return rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, name) }
		var events []*event.Event
		var input, cost int64
		model := pick("only model")
		for range rapid.IntRange(0, 20).Draw(t, "requests") {
			e := eventOf(day.Add(time.Duration(rapid.Int64Range(0, int64(24*time.Hour)-1).Draw(t, "at"))), pick("model"), by(pick("user")))
			e.InputTokens, e.CostNanoUSD = event.Known(rapid.Int64Range(0, 1e6).Draw(t, "input")), event.Known(rapid.Int64Range(0, 1e12).Draw(t, "cost"))
			if model == "" || e.Model == model {
				input += e.InputTokens.N
				cost += e.CostNanoUSD.N
			}
			events = append(events, e)
		}
		h.record(events...)
		groups := []string{"project", "token", "provider", "model", "end_user", rapid.SampledFrom([]string{"hour", "day"}).Draw(t, "time")}
		groups = rapid.Permutation(groups).Draw(t, "groups")[:rapid.IntRange(1, len(groups)).Draw(t, "number of groups")]
		query := url.Values{"from": {day.Format(time.DateOnly)}, "to": {day.Format(time.DateOnly)}, "group_by": {strings.Join(groups, ",")}}
		if model != "" {
			query.Set("model", model)
		}
		u := must[usage](h, 200, "GET", "/manage/usage?"+query.Encode(), "")
		sum := 0.0
		for _, row := range u.Rows {
			sum += row["input_tokens"].(float64)
		}
		if int64(sum) != input || int64(u.Total["input_tokens"].(float64)) != input || u.Total["cost_usd"] != usd.Format(cost) {
			t.Fatalf("rows have %v input tokens, total %v, want %d and $%s", sum, u.Total, input, usd.Format(cost))
		}
	})
}

func FuzzMoment(f *testing.F) {
	for _, text := range []string{"2026-03-09", "2026-03-09T10:00:00Z", "2026-03-09T10:00:00.5+05:30", "", "2026-13-01", "0001-01-01", "9999-12-31T23:59:59Z"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, day, err := adminapi.ParseMoment("from", text)
		if err != nil {
			if !v.IsZero() || !strings.HasPrefix(err.Error(), "invalid_request: from: expected") {
				t.Errorf("%q: %v, %v", text, v, err)
			}
			return
		}
		again, err := time.Parse(time.RFC3339Nano, v.AddDate(0, 0, 1).Format(time.RFC3339Nano))
		if err != nil || !again.Equal(v.AddDate(0, 0, 1)) || v.Location() != time.UTC || day != (len(text) == len(time.DateOnly)) {
			t.Errorf("%q is %v, day %v, %v", text, v, day, err)
		}
	})
}

func FuzzHarmless(f *testing.F) {
	for _, text := range []string{"=1+1", "'", "", "+", "-1", "@x", "\tx", "\r\n=1", " =1", "a=b", "＝1", "\xff", "\x1b[2J"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := adminapi.Harmless(text)
		first := strings.TrimLeft(got, " ")
		if strings.ContainsFunc(got, unicode.IsControl) || first != "" && strings.ContainsAny(first[:1], "=+-@") {
			t.Errorf("%q became %q", text, got)
		}
		if plain := !strings.ContainsFunc(text, unicode.IsControl) && utf8.ValidString(text); plain && got != text && got != "'"+text {
			t.Errorf("%q became %q", text, got)
		}
		if got == text && strings.HasPrefix(text, "'") {
			t.Errorf("%q cannot be told from a text that was quoted", text)
		}
	})
}

func FuzzAccept(f *testing.F) {
	for _, text := range []string{"text/csv", "text/csv;q=0.5,application/json;q=NaN", ",;=", "text/csv; a=\"b,c\""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if adminapi.WantsCSV([]string{text}) && !strings.Contains(strings.ToLower(text), "text/csv") {
			t.Errorf("%q asks for CSV", text)
		}
	})
}
