/* Generated from openapi.json by scripts/api-types.mjs: change the backend's schemas instead. */

export interface paths {
    "/api/v1/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Health
         * @description Liveness; with `probe=ready` readiness, so a wrong database URL cannot complete a rollout.
         */
        get: operations["health"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/users": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sign Up
         * @description Creates an account and signs in.
         */
        post: operations["sign_up"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/session": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sign In
         * @description Signs in. Clients get the token in the answer, browsers as a cookie.
         */
        post: operations["sign_in"];
        /**
         * Sign Out
         * @description Revokes the token and removes the cookie; succeeds also without them.
         */
        delete: operations["sign_out"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Get Me */
        get: operations["get_me"];
        put?: never;
        post?: never;
        /**
         * Delete Me
         * @description Deletes the account with all its data, immediately and permanently.
         */
        delete: operations["delete_me"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/me/password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Change Password
         * @description Changes the password, ends all sessions and returns a new one.
         */
        put: operations["change_password"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/todos": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Todos
         * @description Returns a page of todos in order. The Link header leads to the next page.
         */
        get: operations["list_todos"];
        put?: never;
        /**
         * Create Todo
         * @description Adds an open todo.
         */
        post: operations["create_todo"];
        /** Delete Todos */
        delete: operations["delete_todos"];
        options?: never;
        head?: never;
        /**
         * Update Todos
         * @description Changes all todos at once.
         */
        patch: operations["update_todos"];
        trace?: never;
    };
    "/api/v1/todos/{todo_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Get Todo */
        get: operations["get_todo"];
        put?: never;
        post?: never;
        /** Delete Todo */
        delete: operations["delete_todo"];
        options?: never;
        head?: never;
        /** Update Todo */
        patch: operations["update_todo"];
        trace?: never;
    };
    "/api/v1/assistant": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Conversation
         * @description Returns the conversation, and whether the assistant is on.
         */
        get: operations["get_conversation"];
        put?: never;
        /**
         * Ask
         * @description Sends a message to the assistant, which may read and change the user's todos.
         */
        post: operations["ask"];
        /** Forget Conversation */
        delete: operations["forget_conversation"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/v1/assistant/confirmations/{confirmation_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Confirm
         * @description Answers a confirmation; the assistant then continues.
         */
        post: operations["confirm"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * Confirmation
         * @description Changes that need the user's confirmation.
         */
        Confirmation: {
            /**
             * Id
             * Format: uuid
             * @example c1f4d7a2-3b5e-4f60-8a91-2d3c4b5a6f70
             */
            id: string;
            /**
             * Question
             * @example Delete this todo?
             */
            question: string;
            /** Todos */
            todos: components["schemas"]["NamedTodo"][];
            /**
             * Expires At
             * Format: date-time
             * @description End of the time to answer
             * @example 2026-11-21T09:10:02Z
             */
            expires_at: string;
        };
        /** Conversation */
        Conversation: {
            /**
             * Available
             * @description false: no OPENAI_API_KEY is set
             * @example true
             */
            available: boolean;
            /**
             * Model
             * @example gpt-5-mini
             */
            model: string | null;
            /**
             * Messages
             * @description Newest last; the last 100
             */
            messages: components["schemas"]["Message"][];
            /**
             * @description The open question at the end of the newest message
             * @example null
             */
            confirmation: components["schemas"]["Confirmation"] | null;
        };
        /** Credentials */
        Credentials: {
            /**
             * Email
             * @description Trimmed and lower-cased
             * @example ada@example.com
             */
            email: string;
            /**
             * Password
             * Format: password
             * @description Any Unicode but NUL, taken as it is
             * @example not-a-secret passphrase
             */
            password: string;
        };
        /** Decision */
        Decision: {
            /**
             * Approve
             * @example true
             */
            approve: boolean;
        };
        /** Deletion */
        Deletion: {
            /**
             * Password
             * Format: password
             * @description Any Unicode but NUL, taken as it is
             * @example not-a-secret passphrase
             */
            password: string;
        };
        /** FieldError */
        FieldError: {
            /**
             * Location
             * @description body, path, query or header
             * @example body
             */
            location: string;
            /**
             * Pointer
             * @description JSON Pointer to the value
             * @example /title
             */
            pointer: string;
            /**
             * Detail
             * @example String should have at least 1 character
             */
            detail: string;
        };
        /** Health */
        Health: {
            /**
             * Status
             * @default ok
             * @constant
             */
            status?: "ok";
            /**
             * @description Result of the last use of the database
             * @example ok
             */
            database: components["schemas"]["State"];
            /** @description Only while unavailable: the kind of error */
            database_cause?: components["schemas"]["Kind"] | null;
            /**
             * Environment
             * @example dev
             */
            environment: string;
            /**
             * Version
             * @example 0.1.0
             */
            version: string;
        };
        /**
         * Kind
         * @enum {string}
         */
        Kind: "unreachable" | "waking up" | "wrong password" | "no such database" | "endpoint refused" | "TLS refused" | "quota exceeded" | "too many connections" | "diverged" | "locked" | "busy" | "failed";
        /** Message */
        Message: {
            /**
             * Id
             * Format: uuid
             * @example 5f0c1d0e-7d7e-4a6c-9d38-1f5f4c3b2a10
             */
            id: string;
            /**
             * Role
             * @example assistant
             * @enum {string}
             */
            role: "user" | "assistant";
            /**
             * Text
             * @example Milk is on your list.
             */
            text: string;
            /**
             * Created At
             * Format: date-time
             * @example 2026-11-21T09:00:02Z
             */
            created_at: string;
            /**
             * Touched
             * @description Todos that this answer changed
             * @example [
             *       "0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55"
             *     ]
             */
            touched: string[];
        };
        /** NamedTodo */
        NamedTodo: {
            /**
             * Id
             * Format: uuid
             * @example 0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55
             */
            id: string;
            /**
             * Title
             * @example Milk
             */
            title: string;
            /**
             * New Title
             * @description null: the todo is to be deleted
             */
            new_title?: string | null;
            /**
             * Completed
             * @description The new state; null: unchanged
             */
            completed?: boolean | null;
        };
        /** PasswordChange */
        PasswordChange: {
            /**
             * Password
             * Format: password
             * @description Any Unicode but NUL, taken as it is
             * @example not-a-secret passphrase
             */
            password: string;
            /**
             * New Password
             * Format: password
             * @description Any Unicode but NUL, taken as it is
             * @example not-a-secret passphrase
             */
            new_password: string;
        };
        /** Problem */
        Problem: {
            /**
             * Type
             * @description about:blank: the status says it all
             * @default about:blank
             */
            type?: string;
            /**
             * Title
             * @example Unprocessable Content
             */
            title: string;
            /**
             * Status
             * @example 422
             */
            status: number;
            /**
             * Detail
             * @example The request is not valid; see errors.
             */
            detail: string;
            /**
             * Code
             * @description For programs; stays as it is
             * @example validation
             */
            code: string;
            /**
             * Instance
             * @example /api/v1/todos
             */
            instance: string;
            /**
             * Request Id
             * @description The same as in X-Request-ID
             */
            request_id?: string | null;
            /**
             * Retry After
             * @description Seconds; as in Retry-After
             */
            retry_after?: number | null;
            /**
             * Errors
             * @description Only with code validation
             */
            errors?: components["schemas"]["FieldError"][] | null;
        };
        /** Question */
        Question: {
            /**
             * Message
             * @description Trimmed; any Unicode but NUL
             * @example Add milk and bread
             */
            message: string;
            /**
             * Resume
             * @description Continue the answer to this message if it is the last one and was cut
             * @default false
             */
            resume?: boolean;
        };
        /** Session */
        Session: {
            /**
             * Token
             * @description For Authorization: Bearer. Browsers get it only as a cookie
             * @example eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…
             */
            token?: string | null;
            /**
             * Token Type
             * @default bearer
             * @constant
             */
            token_type?: "bearer";
            /**
             * Expires At
             * Format: date-time
             * @example 2026-11-28T09:00:00Z
             */
            expires_at: string;
            user: components["schemas"]["User"];
        };
        /**
         * State
         * @enum {string}
         */
        State: "unknown" | "ok" | "unavailable";
        /** Todo */
        Todo: {
            /**
             * Id
             * Format: uuid
             * @example 0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55
             */
            id: string;
            /**
             * Title
             * @description Trimmed; any Unicode but NUL
             * @example Buy milk
             */
            title: string;
            /**
             * Completed
             * @example false
             */
            completed: boolean;
            /**
             * Order
             * @example 1
             */
            order: number;
            /**
             * Version
             * @description Grows with every change; quoted, it is the ETag
             * @example 1764170454123456
             */
            version: number;
            /**
             * Url
             * @description Absolute, as the caller reaches it
             * @example http://localhost:8080/api/v1/todos/0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55
             */
            url: string;
        };
        /** TodoCreate */
        TodoCreate: {
            /**
             * Title
             * @description Trimmed; any Unicode but NUL
             * @example Buy milk
             */
            title: string;
            /**
             * Order
             * @description Default: after all others
             */
            order?: number | null;
        };
        /**
         * TodoUpdate
         * @description Absent fields stay unchanged; null is rejected.
         *
         *     The factories' values are never used: they make a field optional without allowing null and
         *     without showing a default in OpenAPI.
         */
        TodoUpdate: {
            /**
             * Title
             * @description Trimmed; any Unicode but NUL
             * @example Buy milk
             */
            title?: string;
            /**
             * Completed
             * @example true
             */
            completed?: boolean;
            /**
             * Order
             * @description Sorts the list
             * @example 1
             */
            order?: number;
        };
        /**
         * TodosUpdate
         * @description Changes that apply to all todos.
         */
        TodosUpdate: {
            /**
             * Completed
             * @example true
             */
            completed: boolean;
        };
        /** User */
        User: {
            /**
             * Id
             * Format: uuid
             * @example 8b3f0f55-6a3e-4a38-9a57-0d9c2a7f5b11
             */
            id: string;
            /**
             * Email
             * @example ada@example.com
             */
            email: string;
            /**
             * Created At
             * Format: date-time
             * @example 2026-11-21T09:00:00Z
             */
            created_at: string;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type Confirmation = components['schemas']['Confirmation'];
export type Conversation = components['schemas']['Conversation'];
export type Credentials = components['schemas']['Credentials'];
export type Decision = components['schemas']['Decision'];
export type Deletion = components['schemas']['Deletion'];
export type FieldError = components['schemas']['FieldError'];
export type Health = components['schemas']['Health'];
export type Kind = components['schemas']['Kind'];
export type Message = components['schemas']['Message'];
export type NamedTodo = components['schemas']['NamedTodo'];
export type PasswordChange = components['schemas']['PasswordChange'];
export type Problem = components['schemas']['Problem'];
export type Question = components['schemas']['Question'];
export type Session = components['schemas']['Session'];
export type State = components['schemas']['State'];
export type Todo = components['schemas']['Todo'];
export type TodoCreate = components['schemas']['TodoCreate'];
export type TodoUpdate = components['schemas']['TodoUpdate'];
export type TodosUpdate = components['schemas']['TodosUpdate'];
export type User = components['schemas']['User'];
export type $defs = Record<string, never>;
export interface operations {
    health: {
        parameters: {
            query?: {
                /** @description ready: 503 until the database was reached once in this process's life */
                probe?: "ready" | null;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "status": "ok",
                     *       "database": "ok",
                     *       "database_cause": null,
                     *       "environment": "dev",
                     *       "version": "0.1.0"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    sign_up: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "email": "ada@example.com",
                 *       "password": "not-a-secret passphrase"
                 *     }
                 */
                "application/json": components["schemas"]["Credentials"];
            };
        };
        responses: {
            /** @description Successful Response */
            201: {
                headers: {
                    /**
                     * @description The token, for browsers; Secure where they came by https
                     * @example todo_8080_session=eyJhbGciOiJIUzI1NiIs…; Max-Age=604800; HttpOnly; SameSite=lax; Path=/
                     */
                    "Set-Cookie"?: string;
                    /**
                     * @description The account
                     * @example /api/v1/me
                     */
                    Location?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…",
                     *       "token_type": "bearer",
                     *       "expires_at": "2026-11-28T09:00:00Z",
                     *       "user": {
                     *         "id": "8b3f0f55-6a3e-4a38-9a57-0d9c2a7f5b11",
                     *         "email": "ada@example.com",
                     *         "created_at": "2026-11-21T09:00:00Z"
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Content Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    /**
                     * @description Seconds until the next attempt
                     * @example 900
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    sign_in: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "email": "ada@example.com",
                 *       "password": "not-a-secret passphrase"
                 *     }
                 */
                "application/json": components["schemas"]["Credentials"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    /**
                     * @description The token, for browsers; Secure where they came by https
                     * @example todo_8080_session=eyJhbGciOiJIUzI1NiIs…; Max-Age=604800; HttpOnly; SameSite=lax; Path=/
                     */
                    "Set-Cookie"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…",
                     *       "token_type": "bearer",
                     *       "expires_at": "2026-11-28T09:00:00Z",
                     *       "user": {
                     *         "id": "8b3f0f55-6a3e-4a38-9a57-0d9c2a7f5b11",
                     *         "email": "ada@example.com",
                     *         "created_at": "2026-11-21T09:00:00Z"
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Content Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    /**
                     * @description Seconds until the next attempt
                     * @example 900
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    sign_out: {
        parameters: {
            query?: {
                /** @description true: ends all sessions of the account */
                everywhere?: boolean;
            };
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    /**
                     * @description Takes the cookie away
                     * @example todo_8080_session=""; Max-Age=0; HttpOnly; SameSite=lax; Path=/
                     */
                    "Set-Cookie"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_me: {
        parameters: {
            query?: never;
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "8b3f0f55-6a3e-4a38-9a57-0d9c2a7f5b11",
                     *       "email": "ada@example.com",
                     *       "created_at": "2026-11-21T09:00:00Z"
                     *     }
                     */
                    "application/json": components["schemas"]["User"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_me: {
        parameters: {
            query?: never;
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "password": "not-a-secret passphrase"
                 *     }
                 */
                "application/json": components["schemas"]["Deletion"];
            };
        };
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    /**
                     * @description Takes the cookie away
                     * @example todo_8080_session=""; Max-Age=0; HttpOnly; SameSite=lax; Path=/
                     */
                    "Set-Cookie"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Content Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    /**
                     * @description Seconds until the next attempt
                     * @example 900
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    change_password: {
        parameters: {
            query?: never;
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "password": "not-a-secret passphrase",
                 *       "new_password": "not-a-secret passphrase"
                 *     }
                 */
                "application/json": components["schemas"]["PasswordChange"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    /**
                     * @description The token, for browsers; Secure where they came by https
                     * @example todo_8080_session=eyJhbGciOiJIUzI1NiIs…; Max-Age=604800; HttpOnly; SameSite=lax; Path=/
                     */
                    "Set-Cookie"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…",
                     *       "token_type": "bearer",
                     *       "expires_at": "2026-11-28T09:00:00Z",
                     *       "user": {
                     *         "id": "8b3f0f55-6a3e-4a38-9a57-0d9c2a7f5b11",
                     *         "email": "ada@example.com",
                     *         "created_at": "2026-11-21T09:00:00Z"
                     *       }
                     *     }
                     */
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Content Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    /**
                     * @description Seconds until the next attempt
                     * @example 900
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_todos: {
        parameters: {
            query?: {
                limit?: number;
                /** @description Continues a list; taken from the Link header of the page before */
                after?: string | null;
                /** @description Only these todos */
                id?: string[] | null;
            };
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    /**
                     * @description The next page, if there is one
                     * @example <http://localhost:8080/api/v1/todos?limit=50&after=1_0b4e6f0e5f0e4f6e9a436a2f6a0f3c55>; rel="next"
                     */
                    Link?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example [
                     *       {
                     *         "id": "0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55",
                     *         "title": "Buy milk",
                     *         "completed": false,
                     *         "order": 1,
                     *         "version": 1764170454123456,
                     *         "url": "http://localhost:8080/api/v1/todos/0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55"
                     *       }
                     *     ]
                     */
                    "application/json": components["schemas"]["Todo"][];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    create_todo: {
        parameters: {
            query?: never;
            header?: {
                /** @description With the same key and the same todo again within 24 hours: the first answer, and no second todo */
                "idempotency-key"?: string | null;
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "title": "Buy milk",
                 *       "order": null
                 *     }
                 */
                "application/json": components["schemas"]["TodoCreate"];
            };
        };
        responses: {
            /** @description Successful Response */
            201: {
                headers: {
                    /**
                     * @description The todo's version, for If-Match
                     * @example "1764170454123456"
                     */
                    ETag?: string;
                    /**
                     * @description The todo's url
                     * @example http://localhost:8080/api/v1/todos/0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55
                     */
                    Location?: string;
                    /**
                     * @description Only where this is an earlier request's answer
                     * @example true
                     */
                    "Idempotency-Replayed"?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55",
                     *       "title": "Buy milk",
                     *       "completed": false,
                     *       "order": 1,
                     *       "version": 1764170454123456,
                     *       "url": "http://localhost:8080/api/v1/todos/0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55"
                     *     }
                     */
                    "application/json": components["schemas"]["Todo"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Content Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_todos: {
        parameters: {
            query?: {
                /** @description true: only completed ones. Default: all of them */
                completed?: boolean | null;
                /** @description Only todos that have not changed for so many milliseconds */
                unchanged_for?: number | null;
                /** @description Only these, and those that unchanged_for allows */
                id?: string[] | null;
            };
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    update_todos: {
        parameters: {
            query?: never;
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "completed": true
                 *     }
                 */
                "application/json": components["schemas"]["TodosUpdate"];
            };
        };
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Content Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_todo: {
        parameters: {
            query?: never;
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path: {
                todo_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    /**
                     * @description The todo's version, for If-Match
                     * @example "1764170454123456"
                     */
                    ETag?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55",
                     *       "title": "Buy milk",
                     *       "completed": false,
                     *       "order": 1,
                     *       "version": 1764170454123456,
                     *       "url": "http://localhost:8080/api/v1/todos/0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55"
                     *     }
                     */
                    "application/json": components["schemas"]["Todo"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_todo: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that the change is based on; 412 if the todo has changed since */
                "if-match"?: string | null;
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path: {
                todo_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Precondition Failed */
            412: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    update_todo: {
        parameters: {
            query?: never;
            header?: {
                /** @description The ETag that the change is based on; 412 if the todo has changed since */
                "if-match"?: string | null;
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path: {
                todo_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "title": "Buy milk",
                 *       "completed": true,
                 *       "order": 1
                 *     }
                 */
                "application/json": components["schemas"]["TodoUpdate"];
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    /**
                     * @description The todo's version, for If-Match
                     * @example "1764170454123456"
                     */
                    ETag?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55",
                     *       "title": "Buy milk",
                     *       "completed": false,
                     *       "order": 1,
                     *       "version": 1764170454123456,
                     *       "url": "http://localhost:8080/api/v1/todos/0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55"
                     *     }
                     */
                    "application/json": components["schemas"]["Todo"];
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Precondition Failed */
            412: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Content Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_conversation: {
        parameters: {
            query?: never;
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "available": true,
                     *       "model": "gpt-5-mini",
                     *       "messages": [
                     *         {
                     *           "id": "5f0c1d0e-7d7e-4a6c-9d38-1f5f4c3b2a10",
                     *           "role": "assistant",
                     *           "text": "Milk is on your list.",
                     *           "created_at": "2026-11-21T09:00:02Z",
                     *           "touched": [
                     *             "0b4e6f0e-5f0e-4f6e-9a43-6a2f6a0f3c55"
                     *           ]
                     *         }
                     *       ],
                     *       "confirmation": null
                     *     }
                     */
                    "application/json": components["schemas"]["Conversation"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    ask: {
        parameters: {
            query?: never;
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "message": "Add milk and bread",
                 *       "resume": false
                 *     }
                 */
                "application/json": components["schemas"]["Question"];
            };
        };
        responses: {
            /** @description Server-sent events, each with one line of JSON as its data: `text` {"delta"}, `tool` {"name", "touched"}, `confirmation` {"id", "question", "todos", "expires_at"}, and at the end `done` {"message_id"} or `error` (a problem). A question to be confirmed is answered at `/assistant/confirmations/{confirmation_id}` */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example event: text
                     *     data: {"delta": "Milk is on your list."}
                     *
                     *     event: done
                     *     data: {"message_id": "5f0c1d0e-7d7e-4a6c-9d38-1f5f4c3b2a10"}
                     */
                    "text/event-stream": {
                        /** @enum {string} */
                        event: "text" | "tool" | "confirmation" | "error" | "done";
                        data: string;
                    };
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Content Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    /**
                     * @description Seconds until the next attempt
                     * @example 900
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    forget_conversation: {
        parameters: {
            query?: never;
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    confirm: {
        parameters: {
            query?: never;
            header?: {
                /** @description The user that the caller acts for; 409 if another is signed in */
                "x-todo-user"?: string | null;
            };
            path: {
                confirmation_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                /**
                 * @example {
                 *       "approve": true
                 *     }
                 */
                "application/json": components["schemas"]["Decision"];
            };
        };
        responses: {
            /** @description Server-sent events, each with one line of JSON as its data: `text` {"delta"}, `tool` {"name", "touched"}, `confirmation` {"id", "question", "todos", "expires_at"}, and at the end `done` {"message_id"} or `error` (a problem). A question to be confirmed is answered at `/assistant/confirmations/{confirmation_id}` */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example event: text
                     *     data: {"delta": "Milk is on your list."}
                     *
                     *     event: done
                     *     data: {"message_id": "5f0c1d0e-7d7e-4a6c-9d38-1f5f4c3b2a10"}
                     */
                    "text/event-stream": {
                        /** @enum {string} */
                        event: "text" | "tool" | "confirmation" | "error" | "done";
                        data: string;
                    };
                };
            };
            /** @description Bad Request */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unauthorized */
            401: {
                headers: {
                    /**
                     * @description How to sign in
                     * @example Bearer
                     */
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not Found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Conflict */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Content Too Large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unprocessable Content */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too Many Requests */
            429: {
                headers: {
                    /**
                     * @description Seconds until the next attempt
                     * @example 900
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Service Unavailable */
            503: {
                headers: {
                    /**
                     * @description Seconds until it is worth another try
                     * @example 2
                     */
                    "Retry-After"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
}
