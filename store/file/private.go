package file

// notPrivateError says why a directory is not safe to take commands from.
type notPrivateError struct{ what, todo string }

func (e *notPrivateError) Error() string { return e.what }
