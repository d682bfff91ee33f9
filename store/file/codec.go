package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/budgiehq/budgie/lifecycle"
	"github.com/budgiehq/budgie/store"
)

// formatVersion is the version of state.json that this package writes, and the
// only one so far.
const formatVersion = 1

// snapshot is the content of a state file. It is not changed once it is shared.
type snapshot struct {
	table *store.Table
	// encoded holds the records by id as they stand in the file, so that a
	// write encodes only what is new: see fill.
	encoded map[string][]byte
}

// fill encodes the records whose encoding is missing.
func (s *snapshot) fill() error {
	for _, c := range s.table.Sorted() {
		if _, ok := s.encoded[c.ID]; ok {
			continue
		}
		data, err := encodeRecord(c)
		if err != nil {
			return err
		}
		s.encoded[c.ID] = data
	}
	return nil
}

func emptySnapshot() *snapshot {
	return &snapshot{table: store.NewTable(), encoded: map[string][]byte{}}
}

// document is state.json.
type document struct {
	Version    int                   `json:"version"`
	Revision   uint64                `json:"revision"`
	Containers []lifecycle.Container `json:"containers"`
}

// decode reads a state file. Its errors are store.ErrCorrupt or
// store.ErrVersion, with what is wrong but without what to do.
func decode(data []byte) (*snapshot, error) {
	// The version comes first and alone: it says whether the rest is for us.
	var head struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, corrupt(syntaxError(data, err))
	}
	switch {
	case head.Version == nil:
		return nil, corrupt(errors.New("it has no version"))
	case *head.Version > formatVersion:
		return nil, fmt.Errorf("%w: format version %d, this one knows up to %d",
			store.ErrVersion, *head.Version, formatVersion)
	case *head.Version < 1:
		return nil, corrupt(fmt.Errorf("format version %d does not exist", *head.Version))
	}
	doc, err := decodeDocument(data)
	if err != nil {
		return nil, err
	}
	for i, c := range doc.Containers {
		// Somebody may have edited the file: an empty list, a time of another
		// zone and the like are to be what they will be when read next time.
		if doc.Containers[i], err = store.Canonical(c); err != nil {
			return nil, corrupt(fmt.Errorf("container %d: %w", i+1, err))
		}
	}
	table, err := store.RestoreTable(doc.Revision, doc.Containers)
	if err != nil {
		return nil, corrupt(err)
	}
	s := &snapshot{table: table, encoded: make(map[string][]byte, len(doc.Containers))}
	if err := s.fill(); err != nil {
		return nil, corrupt(err)
	}
	return s, nil
}

func decodeDocument(data []byte) (document, error) {
	var doc document
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	strict := dec.Decode(&doc)
	if strict == nil {
		return doc, nil
	}
	// The decoder has no type for the error of an unknown field: it is that
	// if all is well without the check.
	if err := json.Unmarshal(data, new(document)); err != nil {
		return document{}, corrupt(syntaxError(data, err))
	}
	return document{}, fmt.Errorf("%w: %w", store.ErrVersion, strict)
}

func corrupt(err error) error { return fmt.Errorf("%w: %w", store.ErrCorrupt, err) }

// syntaxError adds the line to an error of package json.
func syntaxError(data []byte, err error) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return errors.New("it is empty")
	}
	var offset int64
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = s.Offset
	} else if u, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = u.Offset
	} else {
		return err
	}
	offset = min(max(offset, 0), int64(len(data)))
	return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:offset], []byte("\n")), err)
}

// encodeRecord returns a record as it stands in the list of containers.
func encodeRecord(c lifecycle.Container) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // for people to read
	enc.SetIndent("    ", "  ")
	if err := enc.Encode(c); err != nil {
		return nil, fmt.Errorf("encode container %.12s: %w", c.ID, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// encode fills s and writes it to w as a state file, in the form that a
// [json.Encoder] with an indent of two spaces gives a document.
func encode(w io.Writer, s *snapshot) error {
	if err := s.fill(); err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n  \"version\": %d,\n  \"revision\": %d,\n  \"containers\": [", formatVersion, s.table.Revision())
	for i, c := range s.table.Sorted() {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n    ")
		b.Write(s.encoded[c.ID])
	}
	if len(s.encoded) > 0 {
		b.WriteString("\n  ")
	}
	b.WriteString("]\n}\n")
	_, err := w.Write(b.Bytes())
	return err
}
