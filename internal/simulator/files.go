package simulator

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// maxFiles is how many file objects are remembered; their content never is.
const maxFiles = 100

// shelf remembers the last uploaded files, oldest first.
type shelf struct {
	mu    sync.Mutex
	files []storedFile
}

type storedFile struct {
	id   string
	body object
}

func (s *shelf) add(f storedFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = append(s.files, f)
	if excess := len(s.files) - maxFiles; excess > 0 {
		s.files = slices.Delete(s.files, 0, excess)
	}
}

// all returns the file objects, newest first as OpenAI lists them.
func (s *shelf) all() list {
	s.mu.Lock()
	defer s.mu.Unlock()
	data := list{}
	for _, f := range slices.Backward(s.files) {
		data = append(data, f.body)
	}
	return data
}

func (s *shelf) find(id string) (object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.files, func(f storedFile) bool { return f.id == id })
	if i < 0 {
		return nil, false
	}
	return s.files[i].body, true
}

// uploadFile answers POST /v1/files, see
// https://platform.openai.com/docs/api-reference/files/create.
func (c *call) uploadFile() {
	up, ok := c.readUpload()
	if !ok || !c.require("file", up.hasFile) || !c.require("purpose", up.fields["purpose"] != "") {
		return
	}
	id := "file-" + c.hash[:16] + strconv.FormatInt(up.bytes, 36)
	body := object{
		"id", id, "object", "file", "bytes", up.bytes, "created_at", c.s.opt.Now().Unix(),
		"filename", up.filename, "purpose", up.fields["purpose"], "status", "processed",
	}
	c.s.files.add(storedFile{id, body})
	c.json(body)
}

func (c *call) listFiles() {
	c.json(object{"object", "list", "data", c.s.files.all(), "has_more", false})
}

func (c *call) getFile() {
	file, ok := c.s.files.find(c.r.PathValue("id"))
	if !ok {
		c.refuse(problem{status: http.StatusNotFound, param: "id", message: "No such File object: " + c.r.PathValue("id")})
		return
	}
	c.json(file)
}
