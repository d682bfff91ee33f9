package bunfile

import (
	"fmt"

	"github.com/goccy/go-yaml/token"
)

// Limits on the tokens that the YAML parser is fed: it recurses over the keys
// of a mapping and the levels of nesting, and copies at each step.
const (
	maxDepth          = 16
	maxDocumentTokens = 10_000
	maxTokens         = 50_000
	maxDocuments      = 1_000
)

// checkTokens looks for what the parser must not see: too much of anything,
// and the parts of YAML that a .bun file has no use for.
func checkTokens(tokens token.Tokens, trusted bool) *problem {
	if tk := tokens.InvalidToken(); tk != nil {
		return nil // the parser refuses it at once, with its message
	}
	if len(tokens) > maxTokens {
		return tooMany(tokens[maxTokens], fmt.Sprintf("more than %d YAML tokens", maxTokens), "split the file")
	}
	var nest nesting
	documents, inDocument := 1, 0
	for i, tk := range tokens {
		if tk.Type == token.DocumentHeaderType {
			nest, inDocument = nesting{}, 0
			if documents++; documents > maxDocuments {
				return tooMany(tk, fmt.Sprintf("more than %d documents", maxDocuments), "split the file")
			}
		}
		if inDocument++; inDocument > maxDocumentTokens {
			return tooMany(tk, fmt.Sprintf("more than %d YAML tokens in one document", maxDocumentTokens), "move long lists into an env_file or a volume")
		}
		if nest.add(tokens, i) > maxDepth {
			return tooMany(tk, fmt.Sprintf("nested more than %d deep", maxDepth), "no key of a .bun file is that deep; check brackets and indentation")
		}
		if p := refusedToken(tk, trusted); p != nil {
			return p
		}
		if nest.flow > 0 && (tk.Type == token.LiteralType || tk.Type == token.FoldedType) {
			return &problem{pos: tokenPosition(tk), message: "a block of text cannot stand inside brackets", hint: "put the text in quotes"}
		}
		if nest.flow > 0 && isTightColon(tokens, i) {
			return &problem{pos: tokenPosition(tk), message: `inside brackets, ":" needs a blank behind it`, hint: "if it is part of a text, put that in quotes"}
		}
	}
	return nil
}

// isTightColon reports whether the token is a colon that the scanner takes for
// the end of a key although it is part of a plain text to other readers of
// YAML, as in {args: [redis:7]} (YAML 1.2.2 section 7.3.3).
func isTightColon(tokens token.Tokens, i int) bool {
	tk := tokens[i]
	if tk.Type != token.MappingValueType || i == 0 || i+1 == len(tokens) {
		return false
	}
	key, value := tokens[i-1], tokens[i+1]
	switch key.Type {
	case token.SingleQuoteType, token.DoubleQuoteType: // as in JSON
		return false
	}
	switch value.Type {
	case token.SequenceStartType, token.SequenceEndType, token.MappingStartType, token.MappingEndType, token.CollectEntryType:
		return false
	}
	return value.Position.Line == tk.Position.Line && value.Position.Column == tk.Position.Column+1
}

func tooMany(tk *token.Token, message, hint string) *problem {
	return &problem{pos: tokenPosition(tk), message: message, hint: hint, cause: ErrTooLarge}
}

func refusedToken(tk *token.Token, trusted bool) *problem {
	p := &problem{pos: tokenPosition(tk)}
	switch tk.Type {
	case token.TagType:
		p.message, p.hint = "YAML tags are not supported", "leave the tag out; put a value in quotes to keep it as text"
	case token.DirectiveType:
		p.message, p.hint = "YAML directives are not supported", "delete the line"
	case token.MappingKeyType:
		p.message, p.hint = `"? " keys are not supported`, `write "key: value", or put the text in quotes`
	case token.AnchorType, token.AliasType, token.MergeKeyType:
		if trusted {
			return nil
		}
		p.message, p.hint = "anchors, aliases and merge keys are not accepted from a peer", "write the values out"
	default:
		return nil
	}
	return p
}

// nesting follows how deep the tokens of a document are nested, without
// parsing them.
type nesting struct {
	flow    int
	columns []int // of the open block collections, outermost first
}

func (n *nesting) add(tokens token.Tokens, i int) (depth int) {
	tk := tokens[i]
	switch tk.Type {
	case token.SequenceStartType, token.MappingStartType:
		n.flow++
	case token.SequenceEndType, token.MappingEndType:
		n.flow = max(0, n.flow-1)
	case token.SequenceEntryType:
		n.open(tk.Position.Column)
	case token.MappingValueType:
		if n.flow == 0 && i > 0 {
			n.open(tokens[i-1].Position.Column)
		}
	}
	return n.flow + len(n.columns)
}

func (n *nesting) open(column int) {
	for len(n.columns) > 0 && n.columns[len(n.columns)-1] >= column {
		n.columns = n.columns[:len(n.columns)-1]
	}
	n.columns = append(n.columns, column)
}

func tokenPosition(tk *token.Token) position {
	if tk == nil || tk.Position == nil {
		return position{}
	}
	return position{tk.Position.Line, tk.Position.Column}
}
