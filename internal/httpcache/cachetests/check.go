package cachetests

import (
	"net/http"
	"strconv"
	"strings"
)

// check judges what the client got.
func (s *Step) check(number int, r *response, id string) error {
	for _, expectation := range []func(int, *response) error{s.checkRetry, s.checkType, s.checkStatus, s.checkHeader, s.checkMissing} {
		if err := expectation(number, r); err != nil {
			return err
		}
	}
	return s.checkBody(r, id)
}

func (s *Step) checkRetry(_ int, r *response) error {
	counted := map[string]bool{}
	for _, n := range strings.Fields(r.header.Get("Request-Numbers")) {
		if err := check(n == "0" || !counted[n], true, "the cache asked twice for request %s", n); err != nil {
			return err
		}
		counted[n] = true
	}
	return nil
}

func (s *Step) checkType(number int, r *response) error {
	count := r.count()
	switch s.ExpectedType {
	case "cached":
		if r.status == http.StatusNotModified && count == 0 {
			return nil // not every cache has the count in a 304
		}
		return check(count > 0 && count < number, s.setup("expected_type"), "response %d does not come from cache", number)
	case "not_cached":
		if count == 0 && r.status >= 500 {
			return nil // the cache's own
		}
		return check(count == number, s.setup("expected_type"), "response %d comes from cache", number)
	}
	return nil
}

func (s *Step) checkStatus(number int, r *response) error {
	switch {
	case s.ExpectedStatus != 0:
		return check(r.status == s.ExpectedStatus, s.setup("expected_status"), "response %d has status %d, not %d", number, r.status, s.ExpectedStatus)
	case s.Status != nil:
		return check(r.status == s.Status.Code, true, "response %d has status %d, not %d", number, r.status, s.Status.Code)
	case r.status == 999:
		return check(false, s.setup("expected_type"), "request %d was not conditional", number)
	case s.Disconnect && s.ExpectedType == "not_cached":
		return check(r.status >= 500, true, "response %d has status %d though there was none", number, r.status)
	}
	return check(r.status == http.StatusOK, true, "response %d has status %d, not 200", number, r.status)
}

func (s *Step) checkHeader(number int, r *response) error {
	setup := s.setup("expected_response_headers")
	for i := range s.ExpectedResponseHeader {
		f := &s.ExpectedResponseHeader[i]
		if err := check(len(r.header.Values(f.Name)) > 0, setup, "response %d has no %s", number, f.Name); err != nil {
			return err
		}
		got := r.get(f.Name)
		var err error
		switch {
		case !f.HasValue:
		case f.Operator == "=":
			err = check(got == r.get(f.Value), setup, "response %d: %s is %q, not that of %s", number, f.Name, got, f.Value)
		case f.Operator == ">":
			n, convErr := strconv.ParseInt(got, 10, 64)
			err = check(convErr == nil && n > *f.Delta, setup, "response %d: %s is %q, not above %d", number, f.Name, got, *f.Delta)
		default:
			want := s.value(f, r.originTime(), r.header.Get("Server-Base-Url"))
			err = check(got == want, setup, "response %d: %s is %q, not %q", number, f.Name, got, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Step) checkMissing(number int, r *response) error {
	for _, f := range s.ExpectedMissing {
		got := r.get(f.Name)
		there := len(r.header.Values(f.Name)) > 0
		if f.HasValue {
			there = there && strings.Contains(got, f.Value)
		}
		if err := check(!there, s.setup("expected_response_headers_missing"), "response %d has %s: %q", number, f.Name, got); err != nil {
			return err
		}
	}
	return nil
}

func (s *Step) checkBody(r *response, id string) error {
	switch {
	case s.CheckBody != nil && !*s.CheckBody:
	case s.ExpectedText.Set:
		if want := s.ExpectedText.Value; want != nil {
			return check(r.body == *want, s.setup("expected_response_text"), "the body is %q, not %q", r.body, *want)
		}
	case s.ResponseBody != nil:
		return check(r.body == *s.ResponseBody, true, "the body is %q, not %q", r.body, *s.ResponseBody)
	case s.Disconnect && s.ExpectedType == "not_cached":
	case !bodiless(r.status) && s.method() != http.MethodHead:
		return check(r.body == id, true, "the body is %q, not %q", r.body, id)
	}
	return nil
}

// checkSeen judges what the origin saw.
func checkSeen(steps []Step, got []*response, saw []seen) error {
	at := 0
	for i := range steps {
		s, number := &steps[i], i+1
		setup := s.setup("expected_type")
		if s.ExpectedType == "cached" {
			continue
		}
		if at >= len(saw) {
			if err := check(s.ExpectedType == "" && s.ExpectedRequestHeader == nil && s.ExpectedMethod == "", setup, "request %d did not come to the origin", number); err != nil {
				return err
			}
			continue
		}
		req := &saw[at]
		at++
		if s.ExpectedType == "not_cached" {
			if err := check(req.number == number || req.number == 0, setup, "response %d comes from cache", number); err != nil {
				return err
			}
		}
		condition := map[string]string{"etag_validated": "If-None-Match", "lm_validated": "If-Modified-Since"}[s.ExpectedType]
		if condition != "" {
			if err := check(req.header[condition] != nil, setup, "request %d has no %s", number, condition); err != nil {
				return err
			}
		}
		for _, f := range s.ExpectedRequestHeader {
			values := req.header.Values(f.Name)
			right := len(values) > 0 && (!f.HasValue || strings.Join(values, ", ") == f.Value)
			if err := check(right, s.setup("expected_request_headers"), "request %d: %s is %q at the origin, not %q", number, f.Name, values, f.Value); err != nil {
				return err
			}
		}
		for _, f := range req.sent {
			if f.Name == "Date" || req.number != number {
				continue
			}
			if err := check(got[i].get(f.Name) == f.Value, true, "response %d: %s is %q, not %q", number, f.Name, got[i].get(f.Name), f.Value); err != nil {
				return err
			}
		}
		if s.ExpectedMethod != "" {
			if err := check(req.method == s.ExpectedMethod, s.setup("expected_method"), "request %d came as %s, not %s", number, req.method, s.ExpectedMethod); err != nil {
				return err
			}
		}
	}
	return nil
}
