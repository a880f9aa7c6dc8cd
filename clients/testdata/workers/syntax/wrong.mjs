// Not bundled, so nobody looks at it before the server does.
export default "never" + ;
