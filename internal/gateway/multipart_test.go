package gateway

import (
	"bytes"
	"mime/multipart"
	"net/textproto"
	"slices"
	"strings"
	"testing"
)

const formType = "multipart/form-data; boundary=xyz"

// part is one part of a form: header lines (the first is a bare disposition) and
// its content.
func part(content, disposition string, lines ...string) string {
	head := "Content-Disposition: " + disposition
	for _, line := range lines {
		head += "\r\n" + line
	}
	return "--xyz\r\n" + head + "\r\n\r\n" + content + "\r\n"
}

func field(name, value string) string { return part(value, `form-data; name="`+name+`"`) }

const (
	fileHead = `form-data; name="file"; filename="a.wav"`
	formEnd  = "--xyz--\r\n"
)

func TestInspectForm(t *testing.T) {
	file := part("RIFF\x00\xff--xy\r\n--", fileHead, "Content-Type: audio/wav")
	for name, tc := range map[string]struct {
		body   string
		model  member
		params []member
	}{
		"model":              {body: field("model", "whisper-1") + file + formEnd, model: text("whisper-1")},
		"file first":         {body: file + field("model", "whisper-1") + formEnd, model: text("whisper-1")},
		"no last line end":   {body: field("model", "m") + "--xyz--", model: text("m")},
		"unquoted":           {body: part("m", "form-data; name=model") + formEnd, model: text("m")},
		"other case":         {body: part("m", `Form-Data; NAME="model"`) + formEnd, model: text("m")},
		"lower-case header":  {body: "--xyz\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n" + formEnd, model: text("m")},
		"empty":              {body: field("model", "") + formEnd, model: text("")},
		"line ends inside":   {body: field("model", "a\r\nb\n") + formEnd, model: text("a\r\nb\n")},
		"no fields asked":    {body: file + formEnd},
		"params":             {body: field("user", "u") + field("temperature", "0") + formEnd, params: []member{text("u"), text("0")}},
		"nested form":        {body: part("--abc\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx\r\n--abc--", fileHead) + formEnd},
		"quoted boundary":    {body: field("model", "m") + formEnd, model: text("m")},
		"a typed text field": {body: part("m", `form-data; name="model"`, "Content-Type: text/plain; charset=UTF-8") + formEnd, model: text("m")},
		"long field unasked": {body: field("prompt", strings.Repeat("p", 1<<16)) + field("model", "m") + formEnd, model: text("m")},
	} {
		t.Run(name, func(t *testing.T) {
			contentType := formType
			if name == "quoted boundary" {
				contentType = `Multipart/Form-Data; charset=utf-8; boundary="xyz"`
			}
			if tc.params == nil {
				tc.params = make([]member, len(askedFor))
			}
			in, problem := inspectForm([]byte(tc.body), contentType, askedFor)
			if problem != scanOK || in.model != tc.model || !slices.Equal(in.params, tc.params) {
				t.Errorf("%+v (problem %d), want model %+v, params %+v", in, problem, tc.model, tc.params)
			}
		})
	}
}

// Whatever another parser might name or cut differently is refused.
func TestInspectFormRefuses(t *testing.T) {
	good := field("model", "m")
	for name, tc := range map[string]struct {
		body string
		kind string
		want scanProblem
	}{
		"empty":                       {body: "", want: scanNotJSON},
		"no parts":                    {body: "--xyz--\r\n", want: scanNotJSON},
		"no end":                      {body: good, want: scanNotJSON},
		"cut":                         {body: good[:len(good)-3], want: scanNotJSON},
		"JSON":                        {body: `{"model":"m"}`, want: scanNotJSON},
		"no boundary":                 {body: good + formEnd, kind: "multipart/form-data", want: scanNotJSON},
		"empty boundary":              {body: good + formEnd, kind: `multipart/form-data; boundary=""`, want: scanNotJSON},
		"another boundary":            {body: good + formEnd, kind: "multipart/form-data; boundary=abc", want: scanNotJSON},
		"two boundaries":              {body: good + formEnd, kind: "multipart/form-data; boundary=xyz; boundary=abc", want: scanNotJSON},
		"boundary in pieces":          {body: good + formEnd, kind: "multipart/form-data; boundary*0=x; boundary*1=yz", want: scanNotJSON},
		"encoded boundary":            {body: good + formEnd, kind: "multipart/form-data; boundary*=utf-8''xyz", want: scanNotJSON},
		"repeated":                    {body: good + good + formEnd, want: scanRepeated},
		"Model":                       {body: field("Model", "m") + formEnd, want: scanAmbiguous},
		"MODEL beside model":          {body: good + field("MODEL", "n") + formEnd, want: scanAmbiguous},
		"long s":                      {body: field("uſer", "m") + formEnd, want: scanAmbiguous},
		"too long":                    {body: field("model", strings.Repeat("m", maxFormValue+1)) + formEnd, want: scanNotJSON},
		"no name":                     {body: part("m", "form-data") + formEnd, want: scanNotJSON},
		"empty name":                  {body: part("m", `form-data; name=""`) + formEnd, want: scanNotJSON},
		"another disposition":         {body: part("m", `attachment; name="model"`) + formEnd, want: scanNotJSON},
		"no disposition":              {body: "--xyz\r\nX: y\r\n\r\nm\r\n" + formEnd, want: scanNotJSON},
		"no header":                   {body: "--xyz\r\n\r\nm\r\n" + formEnd, want: scanNotJSON},
		"two dispositions":            {body: part("m", `form-data; name="a"`, `Content-Disposition: form-data; name="model"`) + formEnd, want: scanNotJSON},
		"two names":                   {body: part("m", `form-data; name="a"; name="model"`) + formEnd, want: scanNotJSON},
		"two names in two cases":      {body: part("m", `form-data; name="a"; NAME="model"`) + formEnd, want: scanNotJSON},
		"extended name":               {body: part("m", `form-data; name="a"; name*=utf-8''model`) + formEnd, want: scanNotJSON},
		"name in pieces":              {body: part("m", `form-data; name*0="mo"; name*1="del"`) + formEnd, want: scanNotJSON},
		"encoded word":                {body: part("m", `form-data; name="=?utf-8?q?model?="`) + formEnd, want: scanNotJSON},
		"escaped quote":               {body: part("m", `form-data; name="a\"; name=\"model"`) + formEnd, want: scanNotJSON},
		"escaped name":                {body: part("m", `form-data; name="mo\del"`) + formEnd, want: scanNotJSON},
		"quoted name in a filename":   {body: part("m", `form-data; name="a"; filename="\"; name=\"model"`) + formEnd, want: scanNotJSON},
		"folded header":               {body: part("m", "form-data;\r\n name=\"model\"") + formEnd, want: scanNotJSON},
		"bare line feed in a header":  {body: part("m", "form-data; name=\"a\"\nX: ; name=\"model\"") + formEnd, want: scanNotJSON},
		"bare carriage return":        {body: part("m", "form-data; name=\"a\"\rX: ; name=\"model\"") + formEnd, want: scanNotJSON},
		"a file called model":         {body: part("m", `form-data; name="model"; filename="x"`) + formEnd, want: scanNotJSON},
		"transfer encoding":           {body: part("bQ==", `form-data; name="model"`, "Content-Transfer-Encoding: base64") + formEnd, want: scanNotJSON},
		"another charset":             {body: part("+AG0-", `form-data; name="model"`, "Content-Type: text/plain; charset=utf-7") + formEnd, want: scanNotJSON},
		"a charset for all":           {body: field("_charset_", "utf-7") + good + formEnd, want: scanNotJSON},
		"preamble":                    {body: "hello\r\n" + good + formEnd, want: scanNotJSON},
		"empty line before":           {body: "\r\n" + good + formEnd, want: scanNotJSON},
		"epilogue":                    {body: good + formEnd + "bye", want: scanNotJSON},
		"form after the form":         {body: good + formEnd + field("model", "n") + formEnd, want: scanNotJSON},
		"line feeds alone":            {body: strings.ReplaceAll(good+formEnd, "\r\n", "\n"), want: scanNotJSON},
		"line feed before the form":   {body: "--xyz\nContent-Disposition: form-data; name=\"model\"\n\na\n--xyz--\n\r\n" + good + formEnd, want: scanNotJSON},
		"space after a boundary":      {body: strings.Replace(field("a", "1")+good+formEnd, "\r\n--xyz\r\n", "\r\n--xyz \r\n", 1), want: scanNotJSON},
		"boundary inside a line":      {body: field("a", "1--xyz") + good + formEnd, want: scanNotJSON},
		"boundary after a line feed":  {body: field("a", "1\n--xyz\nContent-Disposition: form-data; name=\"model\"\n\nn") + good + formEnd, want: scanNotJSON},
		"longer boundary":             {body: field("a", "1\r\n--xyz1\r\n") + good + formEnd, want: scanNotJSON},
		"invalid UTF-8 in the name":   {body: part("m", "form-data; name=\"model\xff\"") + formEnd, want: scanNotJSON},
		"invalid UTF-8 in the value":  {body: field("model", "m\xff") + formEnd, want: scanNotJSON},
		"more parts than looked at":   {body: strings.Repeat(field("a", "1"), maxFormFields) + good + formEnd, want: scanNotJSON},
		"header without an end":       {body: "--xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n--xyz--\r\n", want: scanNotJSON},
		"space before a header colon": {body: "--xyz\r\nContent-Disposition : form-data; name=\"model\"\r\n\r\nm\r\n" + formEnd, want: scanNotJSON},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.kind == "" {
				tc.kind = formType
			}
			if in, problem := inspectForm([]byte(tc.body), tc.kind, askedFor); problem != tc.want {
				t.Errorf("problem %d, want %d (%+v)", problem, tc.want, in)
			}
		})
	}
}

func TestIsMultipart(t *testing.T) {
	for contentType, want := range map[string]bool{
		formType: true, "Multipart/Form-Data;boundary=x": true, "multipart/form-data": true,
		"": false, "application/json": false, "multipart/mixed; boundary=x": false, "multipart/form-datax; boundary=x": false, "multipart/form-data; x": false,
	} {
		if got := isMultipart(contentType); got != want {
			t.Errorf("%q: %t, want %t", contentType, got, want)
		}
	}
}

// FuzzInspectForm writes forms with the standard library's writer: the scan must
// read back what was written; and whatever bytes come, it must not vouch for a form
// that the standard library's reader reads otherwise.
func FuzzInspectForm(f *testing.F) {
	f.Add("model", "whisper-1", "file", []byte("RIFF"), []byte(field("model", "m")+formEnd))
	f.Add("user", "a\r\nb", "model", []byte("--xyz"), []byte(part("m", fileHead)+formEnd))
	f.Add("temperature", "", "a b", []byte{0, 255}, []byte(good2))
	f.Fuzz(func(t *testing.T, name, value, other string, content, raw []byte) {
		readsBack(t, name, value, other, content)
		in, problem := inspectForm(raw, formType, askedFor)
		if problem != scanOK {
			return
		}
		form, err := multipart.NewReader(bytes.NewReader(raw), "xyz").ReadForm(1 << 20)
		if err != nil {
			t.Fatalf("vouched for a form that cannot be read: %v", err)
		}
		defer func() { _ = form.RemoveAll() }()
		for name, m := range map[string]member{memberModel: in.model, askedFor[0]: in.params[0], askedFor[1]: in.params[1]} {
			values := form.Value[name]
			if len(form.File[name]) > 0 || m.present != (len(values) == 1) || m.present && values[0] != m.text || len(values) > 1 {
				t.Errorf("%s: read %+v, want %q", name, m, values)
			}
		}
	})
}

var good2 = part("m", `form-data; name=user`) + part("x", fileHead) + formEnd

func readsBack(t *testing.T, name, value, other string, content []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.WriteField(name, value)
	h := make(textproto.MIMEHeader)
	h.Set("Content-Disposition", multipart.FileContentDisposition(other, "a.bin"))
	pw, _ := w.CreatePart(h)
	_, _ = pw.Write(content)
	_ = w.Close()
	in, problem := inspectForm(b.Bytes(), w.FormDataContentType(), askedFor)
	if problem != scanOK {
		return
	}
	want := member{}
	if name == memberModel {
		want = text(value)
	}
	if in.model != want {
		t.Errorf("model %+v, want %+v", in.model, want)
	}
}
