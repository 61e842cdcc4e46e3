module todo.local/pause

go 1.26.0
