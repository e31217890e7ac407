package simulator

import (
	"errors"
	"io"
	"mime/multipart"
)

// maxField bounds a form field, maxFields their number; files are not bounded.
const (
	maxField  = 1 << 20
	maxFields = 100
)

// upload is a multipart form whose file has been read and thrown away.
type upload struct {
	fields   map[string]string
	filename string
	bytes    int64
	hasFile  bool
}

// readUpload reads a multipart form as it arrives: a file of any size takes no
// memory. When the form is broken it answers and reports false.
func (c *call) readUpload() (*upload, bool) {
	form, err := c.r.MultipartReader()
	if err != nil {
		c.refuse(badRequest("Could not parse multipart form: " + err.Error()))
		return nil, false
	}
	up := &upload{fields: make(map[string]string)}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = up.add(part)
		}
		if err != nil {
			c.refuse(badRequest("Could not parse multipart form: " + err.Error()))
			return nil, false
		}
	}
	// What follows the last part must be read too: net/http notices a client
	// that goes only when the body is at its end.
	if _, err := io.Copy(io.Discard, c.r.Body); err != nil {
		c.gone()
	}
	c.s.stats.update(func(s *Stats) { s.UploadBytes += up.bytes })
	c.seed([]byte(up.filename))
	return up, true
}

func (up *upload) add(part *multipart.Part) error {
	if part.FileName() != "" {
		n, err := io.Copy(io.Discard, part)
		up.filename, up.hasFile = part.FileName(), true
		up.bytes += n
		return err
	}
	value, err := io.ReadAll(io.LimitReader(part, maxField+1))
	switch {
	case err != nil:
		return err
	case len(value) > maxField || len(up.fields) >= maxFields:
		return errors.New("form field too large")
	}
	up.fields[part.FormName()] = string(value)
	return nil
}
